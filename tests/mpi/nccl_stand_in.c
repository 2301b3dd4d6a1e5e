// A stand-in for libcuda.so and libnccl.so in one library, for tests on machines without a GPU: device memory is the host's, and NCCL's
// messages go by MPI, which the process has started. It does what the crate calls and no more, with one stream and one communicator, and is
// stricter than the real ones: it refuses what lies outside of device memory, and says at its end what it has carried. It shows nothing
// about a GPU or about NCCL.
//
// NCCL_STAND_IN_DEVICES: how many devices there are (default 8). NCCL_STAND_IN_FAILS, as in send:1:20: on process 1, after 20 messages, what
// is sent fails at once; with later: in its place, what was begun never arrives, and whoever asks hears of a failure.
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t Pointer;
enum { OK = 0, INVALID = 1, WRONG_DEVICE = 101, NO_CONTEXT = 201, NOT_READY = 600 };
enum { SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, INVALID_USAGE = 5, REMOTE_ERROR = 6 };
enum { UINT8 = 1, FLOAT32 = 7, FLOAT64 = 8, SUM = 0, MOST = 4096 };

// Device memory, and the thread's present device.

static struct { char *start; size_t length; } blocks[MOST];
static void *present;
static MPI_Request requests[MOST];
static int under_way, aborted;

static int is_device(Pointer start, size_t length) {
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start && start >= (Pointer)blocks[i].start && start + length <= (Pointer)blocks[i].start + blocks[i].length) return 1;
    return 0;
}

// What comes later on the stream waits for what was sent before.
static void settle(void) {
    if (under_way && MPI_Waitall(under_way, requests, MPI_STATUSES_IGNORE) != MPI_SUCCESS) abort();
    under_way = 0;
}

int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) {
    char *set = getenv("NCCL_STAND_IN_DEVICES");
    return *count = set ? atoi(set) : 8, OK;
}
int cuDeviceGet(int *device, int index) {
    int count;
    cuDeviceGetCount(&count);
    return *device = index, index < 0 || index >= count ? WRONG_DEVICE : OK;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) { return (void)attribute, (void)device, *value = 1, OK; }
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)(intptr_t)(device + 1), OK; }
int cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, OK; }
int cuCtxGetCurrent(void **context) { return *context = present, OK; }
int cuCtxSetCurrent(void *context) { return present = context, OK; }
int cuCtxSynchronize(void) { return settle(), OK; }
int cuGetErrorString(int error, const char **text) { return (void)error, *text = "the stand-in refuses", OK; }
int cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = &under_way, present ? OK : NO_CONTEXT; }
int cuStreamDestroy_v2(void *stream) { return (void)stream, OK; }
int cuStreamSynchronize(void *stream) { return (void)stream, settle(), OK; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)stream, (void)event, (void)flags, OK; }

int cuMemAllocAsync(Pointer *start, size_t length, void *stream) {
    (void)stream;
    if (!present) return NO_CONTEXT;
    for (int i = 0; i < MOST && length; i++)
        if (!blocks[i].start) {
            blocks[i].start = malloc(length), blocks[i].length = length;
            return *start = (Pointer)blocks[i].start, OK;
        }
    return INVALID;
}
int cuMemFreeAsync(Pointer start, void *stream) {
    (void)stream, settle();
    for (int i = 0; i < MOST; i++)
        if (blocks[i].start && (Pointer)blocks[i].start == start) {
            // MPI may still write to what was given up.
            if (!aborted) free(blocks[i].start);
            return blocks[i].start = NULL, OK;
        }
    return INVALID;
}
int cuMemsetD8Async(Pointer start, unsigned char value, size_t length, void *stream) {
    if ((void)stream, settle(), !is_device(start, length)) return INVALID;
    return memset((void *)start, value, length), OK;
}
int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t length, void *stream) {
    if ((void)stream, settle(), !is_device(to, length)) return INVALID;
    return memcpy((void *)to, from, length), OK;
}
int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t length, void *stream) {
    if ((void)stream, settle(), !is_device(from, length)) return INVALID;
    return memcpy(to, (void *)from, length), OK;
}

// Events: as there is one stream, all ask for all that is under way.

static int broken;

int cuEventCreate(void **event, unsigned flags) { return (void)flags, *event = &broken, present ? OK : NO_CONTEXT; }
int cuEventDestroy_v2(void *event) { return (void)event, OK; }
int cuEventRecord(void *event, void *stream) { return (void)event, (void)stream, OK; }
int cuEventQuery(void *event) {
    int done = 0;
    (void)event;
    if (broken || MPI_Testall(under_way, requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS || !done) return NOT_READY;
    return under_way = 0, OK;
}

// NCCL.

typedef struct { char bytes[128]; } Id;
static struct { int sends, peer; Pointer start; size_t length; } queue[MOST];
static int rank, size, is_group, queued;
static long sent, summed, begun;
static MPI_Comm world = MPI_COMM_NULL;

static int fails(const char *how) {
    char kind[16];
    int of, after;
    char *set = getenv("NCCL_STAND_IN_FAILS");
    return set && sscanf(set, "%15[a-z]:%d:%d", kind, &of, &after) == 3 && !strcmp(kind, how) && of == rank && begun > after;
}

int ncclGetUniqueId(Id *id) {
    for (int i = 0; i < 128; i++) id->bytes[i] = (char)(i * 7 + getpid());
    return OK;
}
int ncclCommInitRank(void **communicator, int processes, Id id, int number) {
    MPI_Comm_dup(MPI_COMM_WORLD, &world);
    MPI_Comm_rank(world, &rank), MPI_Comm_size(world, &size);
    Id first = id;
    MPI_Bcast(first.bytes, 128, MPI_CHAR, 0, world);
    intptr_t own = (intptr_t)present, *all = malloc(size * sizeof own);
    MPI_Allgather(&own, sizeof own, MPI_CHAR, all, sizeof own, MPI_CHAR, world);
    int bad = rank != number || size != processes || memcmp(&first, &id, 128) ? INVALID_ARGUMENT : OK;
    for (int i = 0; i < size; i++)
        for (int j = 0; j < i; j++) bad = !bad && (!all[i] || all[i] == all[j]) ? INVALID_USAGE : bad;
    free(all);
    return *communicator = &world, bad;
}
int ncclCommAbort(void *communicator) {
    if (communicator != &world || aborted) return INVALID_ARGUMENT;
    under_way = 0, aborted = 1;
    return fprintf(stderr, "stand-in: process %d has sent %ld and summed %ld\n", rank, sent, summed), OK;
}
int ncclCommGetAsyncError(void *communicator, int *error) {
    return *error = broken ? REMOTE_ERROR : OK, communicator == &world && !aborted ? OK : INVALID_ARGUMENT;
}
int ncclGroupStart(void) { return is_group || queued ? INVALID_USAGE : (is_group = 1, OK); }

static int add(int sends, Pointer start, size_t length, int type, int peer, void *communicator) {
    if (!is_group || !present || aborted || communicator != &world) return INVALID_USAGE;
    if (type != UINT8 || !length || peer == rank || peer < 0 || peer >= size || !is_device(start, length)) return INVALID_ARGUMENT;
    if (queued == MOST || under_way) return INVALID_USAGE;
    queue[queued].sends = sends, queue[queued].peer = peer, queue[queued].start = start, queue[queued].length = length;
    return queued++, OK;
}
int ncclSend(const void *start, size_t length, int type, int peer, void *communicator, void *stream) {
    (void)stream, begun++;
    return fails("send") ? SYSTEM_ERROR : add(1, (Pointer)start, length, type, peer, communicator);
}
int ncclRecv(void *start, size_t length, int type, int peer, void *communicator, void *stream) {
    return (void)stream, add(0, (Pointer)start, length, type, peer, communicator);
}
// Only now anything is sent, and what it is sent from must still be there.
int ncclGroupEnd(void) {
    if (!is_group) return INVALID_USAGE;
    broken |= fails("later");
    for (int i = 0; i < queued && !broken; i++) {
        if (!is_device(queue[i].start, queue[i].length)) return INVALID_ARGUMENT;
        void *start = (void *)queue[i].start;
        MPI_Request *request = &requests[under_way++];
        if (queue[i].sends) MPI_Isend(start, (int)queue[i].length, MPI_BYTE, queue[i].peer, 0, world, request), sent++;
        else MPI_Irecv(start, (int)queue[i].length, MPI_BYTE, queue[i].peer, 0, world, request);
    }
    return is_group = queued = 0, OK;
}
int ncclAllReduce(const void *from, void *to, size_t count, int type, int what, void *communicator, void *stream) {
    size_t width = type == FLOAT32 ? 4 : type == FLOAT64 ? 8 : 0;
    (void)stream;
    if (is_group || !present || aborted || communicator != &world || under_way) return INVALID_USAGE;
    if (!width || what != SUM || from != to || !is_device((Pointer)to, count * width)) return INVALID_ARGUMENT;
    MPI_Iallreduce(MPI_IN_PLACE, to, (int)count, width == 4 ? MPI_FLOAT : MPI_DOUBLE, MPI_SUM, world, &requests[under_way++]);
    return summed++, OK;
}
