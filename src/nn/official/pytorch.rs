//! PyTorch's checkpoints (`.pt`, `.ckpt`): a zip archive of a pickle that names tensors, and of the bytes of each. Nothing in them is run.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;

use rawzip::{CompressionMethod, ZipArchive};
use safetensors::tensor::Dtype;

use super::pickle::{Id, Pickle, Value};
use crate::error::{Error, Result};
use crate::nn::store::{Archive, Stored};

/// Dictionaries by which training programs keep weights beside other things.
const WEIGHTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "module", "net"];

/// What a tensor's elements are, by the class that PyTorch keeps them in.
const KINDS: [(&str, Kind); 12] = [
    ("torch.FloatStorage", Kind::Real(Dtype::F32)),
    ("torch.DoubleStorage", Kind::Real(Dtype::F64)),
    ("torch.HalfStorage", Kind::Real(Dtype::F16)),
    ("torch.BFloat16Storage", Kind::Real(Dtype::BF16)),
    ("torch.LongStorage", Kind::Real(Dtype::I64)),
    ("torch.IntStorage", Kind::Real(Dtype::I32)),
    ("torch.ShortStorage", Kind::Real(Dtype::I16)),
    ("torch.CharStorage", Kind::Real(Dtype::I8)),
    ("torch.ByteStorage", Kind::Real(Dtype::U8)),
    ("torch.BoolStorage", Kind::Real(Dtype::BOOL)),
    ("torch.ComplexFloatStorage", Kind::Complex(Dtype::F32)),
    ("torch.ComplexDoubleStorage", Kind::Complex(Dtype::F64)),
];

/// The type of a tensor's elements, of complex ones that of a part.
#[derive(Clone, Copy)]
enum Kind {
    Real(Dtype),
    Complex(Dtype),
}

/// How many times as large as its file a checkpoint may be in all: tied weights are in it twice, and a hostile file could name one storage
/// without end.
const REPEATS: usize = 16;

/// The tensors of the checkpoint in `bytes`, which is at `path`, as [`Archive`].
///
/// # Errors
/// [`Error::Checkpoint`] where it is damaged, no checkpoint of PyTorch, or holds something in a weight's place that is no tensor.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Archive> {
    let refused = |help: String| Error::checkpoint(path, help);
    let files = files(bytes).map_err(refused)?;
    let none = "is a zip archive with no data.pkl in it, and so no checkpoint that torch.save wrote: give that";
    let (name, pickle) = files.iter().find(|(name, _)| file_name(name) == "data.pkl").ok_or_else(|| refused(none.into()))?;
    let folder = name[..name.len() - "data.pkl".len()].to_owned();
    if files.get(&format!("{folder}byteorder")).is_some_and(|order| *order == b"big") {
        return Err(refused("was written on a machine that puts the high byte first: save it anew on one that does not".into()));
    }
    let pickle = Pickle::parse(pickle).map_err(refused)?;
    let checkpoint = Checkpoint { pickle, files, folder, left: Cell::new(bytes.len().saturating_mul(REPEATS)) };
    Ok(Archive { tensors: checkpoint.tensors().map_err(refused)?, ..Archive::default() })
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The files of a zip archive, none of them compressed, by their paths.
fn files(bytes: &[u8]) -> Result<BTreeMap<String, &[u8]>, String> {
    let broken = |error: rawzip::Error| format!("is truncated or no zip archive ({error}): fetch or save it again");
    let archive = ZipArchive::from_slice(bytes).map_err(broken)?;
    let (mut entries, mut files) = (archive.entries(), BTreeMap::new());
    while let Some(entry) = entries.next_entry().map_err(broken)? {
        let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
        if entry.compression_method() != CompressionMethod::STORE {
            return Err(format!("holds {name} compressed, as torch.save never does: save it anew with torch.save"));
        }
        let (start, end) = archive.get_entry(entry.wayfinder()).map_err(broken)?.compressed_data_range();
        let content = bytes.get(start as usize..end as usize).unwrap_or_default();
        if crc32fast::hash(content) != entry.crc32() {
            return Err(format!("is damaged: {name} does not fit its checksum; fetch or save it again, with set_crc32_options(True)"));
        }
        if files.insert(name.clone(), content).is_some() {
            return Err(format!("is damaged: it holds {name} twice"));
        }
    }
    Ok(files)
}

/// A checkpoint whose tensors are read.
struct Checkpoint<'a> {
    pickle: Pickle,
    files: BTreeMap<String, &'a [u8]>,
    /// What the files' paths begin with.
    folder: String,
    /// Bytes that the tensors may have.
    left: Cell<usize>,
}

impl Checkpoint<'_> {
    /// The tensors of the dictionary of weights.
    fn tensors(&self) -> Result<BTreeMap<String, Stored>, String> {
        let mut tensors = BTreeMap::new();
        for (key, id) in self.weights()? {
            let Some(name) = self.pickle.text(key).map(str::to_owned) else { continue };
            // Whatever else there is besides tensors, as numbers and lists, is passed over: no weight is made of it.
            if matches!(self.pickle.value(id), Value::Object { .. } | Value::Global(_)) && self.entries(id).is_none() {
                let tensor = self.tensor(id).map_err(|help| format!("{name} {help}"))?;
                tensors.insert(name, tensor);
            }
        }
        Ok(tensors)
    }

    /// The entries of the dictionary of weights: one of [`WEIGHTS`] or, where there is none, the whole.
    fn weights(&self) -> Result<Vec<(Id, Id)>, String> {
        let root = self.pickle.root;
        let Some(entries) = self.entries(root) else {
            let help = "which is not made, since that would run code: save its state_dict()";
            return Err(format!("holds {}, {help}", self.describe(root)));
        };
        let within = |name: &&str| {
            let (_, id) = entries.iter().rev().find(|(key, _)| self.pickle.text(*key) == Some(name))?;
            self.entries(*id)
        };
        Ok(WEIGHTS.iter().find_map(within).unwrap_or(entries).to_vec())
    }

    /// The entries of a dictionary, ordered or not; `None` where it is something else.
    fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.pickle.value(id) {
            Value::Dict(entries) => Some(entries),
            Value::Object { class, entries, .. } if class == "collections.OrderedDict" => Some(entries),
            _ => None,
        }
    }

    fn describe(&self, id: Id) -> String {
        match self.pickle.value(id) {
            Value::Object { class, .. } => format!("an object of {class}"),
            Value::Global(name) => name.clone(),
            Value::Sequence(_) => "a list".into(),
            _ => "a plain value".into(),
        }
    }

    /// The tensor or parameter at a place.
    fn tensor(&self, mut id: Id) -> Result<Stored, String> {
        while let Value::Object { class, args, .. } = self.pickle.value(id) {
            let args = self.pickle.sequence(*args).unwrap_or_default();
            match (class.as_str(), args) {
                // Arguments are older than what is made of them, so this ends.
                ("torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", [data, ..]) if *data < id => id = *data,
                ("torch._utils._rebuild_tensor_v2", &[storage, offset, size, stride, _, _, ref more @ ..])
                    if more.iter().all(|&id| matches!(self.pickle.value(id), Value::Dict(entries) if entries.is_empty())) =>
                {
                    return self.view(storage, offset, size, stride);
                }
                _ => break,
            }
        }
        Err(format!("is {}, and no tensor that is read: save a state_dict() of plain tensors", self.describe(id)))
    }

    /// The values of a storage that a tensor shows, row-major.
    fn view(&self, storage: Id, offset: Id, size: Id, stride: Id) -> Result<Stored, String> {
        const DAMAGED: &str = "is damaged: its storage or its sizes make no sense";
        let (kind, bytes) = self.storage(storage)?;
        let (dtype, complex) = match kind {
            Kind::Real(dtype) => (dtype, false),
            Kind::Complex(dtype) => (dtype, true),
        };
        let width = dtype.bitsize() / 8 * if complex { 2 } else { 1 };
        let sizes = (self.pickle.size(offset), self.pickle.sizes(size), self.pickle.sizes(stride));
        let (Some(offset), Some(mut shape), Some(strides)) = sizes else { return Err(DAMAGED.into()) };
        let count = shape.iter().try_fold(1usize, |count, &n| count.checked_mul(n)).filter(|_| shape.len() == strides.len());
        let count = count.ok_or(DAMAGED)?;
        if count > bytes.len() / width {
            return Err("repeats or exceeds the values that are stored for it: save it as .contiguous()".into());
        }
        self.left.set(self.left.get().checked_sub(count * width).ok_or("and others repeat the same values over and over")?);
        let mut values = Vec::with_capacity(count * width);
        let mut index = vec![0; shape.len()];
        for _ in 0..count {
            let steps = index.iter().zip(&strides).try_fold(offset, |sum, (i, stride)| sum.checked_add(stride.checked_mul(*i)?));
            let place = steps.and_then(|at| bytes.get(at.checked_mul(width)?..at.checked_add(1)?.checked_mul(width)?));
            values.extend_from_slice(place.ok_or(DAMAGED)?);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        shape.extend(complex.then_some(2));
        Ok(Stored::raw(dtype, shape, values))
    }

    /// The type and the bytes of what stands outside of the pickle: ("storage", class, file, device, count).
    fn storage(&self, id: Id) -> Result<(Kind, &[u8]), String> {
        let Value::Outside(id) = self.pickle.value(id) else { return Err("has no storage".into()) };
        let Some(&[_, class, file, ..]) = self.pickle.sequence(*id) else { return Err("has no storage".into()) };
        let (Value::Global(class), Some(file)) = (self.pickle.value(class), self.pickle.text(file)) else {
            return Err("has no storage".into());
        };
        let kind = KINDS.iter().find(|(name, _)| name == class);
        let (_, kind) = kind.ok_or_else(|| format!("is stored as {class}, which is not read: store it as float32"))?;
        let path = format!("{}data/{file}", self.folder);
        let bytes = self.files.get(&path).ok_or_else(|| format!("is missing: there is no {path}"))?;
        Ok((*kind, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pickle of tensors named a, b, .., of the storage "0", each written as numbers and the letters of instructions, apart by spaces.
    fn pickle(tensors: &[&str]) -> Vec<u8> {
        let text = |text: &str| [&[0x8c, text.len() as u8], text.as_bytes()].concat();
        let storage = |class: &[u8]| [b"(", &text("storage")[..], class, &text("0"), &text("cpu"), b"K\x00tQ"].concat();
        let mut bytes = b"\x80\x02}(".to_vec();
        for (name, tensor) in ('a'..).zip(tensors) {
            bytes.extend(text(&name.to_string()));
            for word in tensor.split(' ') {
                bytes.extend(match word {
                    "view" => b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec(),
                    "storage" => storage(b"ctorch\nFloatStorage\n"),
                    "other" => storage(b"ctorch\nQUInt8Storage\n"),
                    "done" => b"\x89}tR".to_vec(),
                    "flagged" => [b"\x89}}", &text("conj")[..], b"\x88stR"].concat(),
                    word => word.parse::<i32>().map_or(word.into(), |number| [b"J", &number.to_le_bytes()[..]].concat()),
                });
            }
        }
        bytes.extend(b"u.");
        bytes
    }

    /// The tensors of a pickle beside a storage of the floats 0, 1, 2, 3.
    fn read_pickle(bytes: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
        let storage: Vec<u8> = (0..4u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
        let files = BTreeMap::from([("data/0".to_owned(), &storage[..])]);
        Checkpoint { pickle: Pickle::parse(bytes)?, files, folder: String::new(), left: Cell::new(16 * 4) }.tensors()
    }

    #[test]
    fn a_tensor_shows_its_storage_by_offset_sizes_and_strides() {
        let tensors = [
            ("view storage 1 ( 3 t ( 1 t done", &[3][..], &[1.0, 2.0, 3.0][..]),
            ("view storage 0 ( 2 2 t ( 1 2 t done", &[2, 2], &[0.0, 2.0, 1.0, 3.0]),
            ("view storage 0 ( 4 t ( 0 t done", &[4], &[0.0; 4]),
            ("view storage 3 ) ) done", &[], &[3.0]),
            ("view storage 9 ( 0 t ( 1 t done", &[0], &[]),
        ];
        let found = read_pickle(&pickle(&tensors.map(|(tensor, ..)| tensor))).unwrap();
        assert_eq!(found.len(), tensors.len());
        for ((tensor, shape, values), stored) in tensors.iter().zip(found.values()) {
            assert_eq!((&stored.shape[..], &stored.to_f64().unwrap()[..]), (*shape, *values), "{tensor}");
        }
    }

    #[test]
    fn a_tensor_that_makes_no_sense_is_refused() {
        for (tensor, part) in [
            ("view storage 0 ( 5 t ( 1 t done", "exceeds"),
            ("view storage 0 ( 100 t ( 0 t done", "repeats"),
            ("view storage 2 ( 3 t ( 1 t done", "make no sense"),
            ("view storage -1 ( 3 t ( 1 t done", "make no sense"),
            ("view storage 0 ( 2 t ( 1000000 t done", "make no sense"),
            ("view storage 0 ( 2 t ( 1 1 t done", "make no sense"),
            ("view other 0 ( 2 t ( 1 t done", "torch.QUInt8Storage"),
            ("view 7 0 ( 2 t ( 1 t done", "no storage"),
            ("view storage 0 ( 2 t ( 1 t flagged", "no tensor that is read"),
        ] {
            let help = read_pickle(&pickle(&[tensor])).unwrap_err();
            assert!(help.starts_with("a ") && help.contains(part), "{tensor}: {help}");
        }
        // Four tensors of four floats are as much as this file may hold.
        let all = "view storage 0 ( 4 t ( 1 t done";
        assert_eq!(read_pickle(&pickle(&[all; 4])).unwrap().len(), 4);
        assert!(read_pickle(&pickle(&[all; 5])).unwrap_err().contains("over and over"));
    }

    #[test]
    fn no_pickle_makes_this_reader_panic() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
        for name in ["types.pt", "wrapped.pt", "lightning.ckpt", "whole.pt"] {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            let files = files(&bytes).unwrap();
            let (path, whole) = files.iter().find(|(path, _)| path.ends_with("data.pkl")).unwrap();
            let read = |pickle: &[u8]| {
                let folder = path[..path.len() - "data.pkl".len()].to_owned();
                let left = Cell::new(bytes.len());
                Pickle::parse(pickle).and_then(|pickle| Checkpoint { pickle, files: files.clone(), folder, left }.tensors())
            };
            let mut changed = whole.to_vec();
            for at in 0..whole.len() {
                assert!(Pickle::parse(&whole[..at]).is_err(), "{name} cut at {at}");
                for flip in [1 << (at % 8), 0xff, 0x55] {
                    changed[at] ^= flip;
                    let _ = read(&changed);
                    changed[at] ^= flip;
                }
            }
        }
    }
}
