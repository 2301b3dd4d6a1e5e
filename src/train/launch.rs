//! Launch: the processes that mpirun, or another launcher, has started together.

use std::sync::Arc;

use super::backend_choice::BackendChoice;
use super::communicator::{Alone, Communicator};
use crate::error::Result;

listed! {
    /// What carries the gradients of several processes.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum Transport {
        /// MPI, from host to host.
        #[default]
        Mpi,
        /// NCCL, from one NVIDIA GPU to another; MPI carries the rest. Cargo feature nccl.
        Nccl,
    }
}

/// What a launcher tells a process: how many there are, and which it is. Open MPI, MPICH and Intel MPI, Slurm with PMI and with PMIx.
#[cfg(feature = "mpi")]
const TOLD: [&str; 4] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK"];

/// The processes that a launcher has started together with this one. [`cli::main`](super::cli::main) joins and leaves them by itself; a loop of
/// one's own does so around all that its [`Trainer`](super::Trainer) does [across](super::Trainer::across) them.
///
/// ```
/// use pspikessm::train::Launched;
///
/// let launched = Launched::join()?;
/// let communicator = launched.communicator();
/// println!("process {} of {}", communicator.rank(), communicator.size());
/// // .. a trainer across them, and its steps ..
/// launched.leave(false);
/// # Ok::<(), pspikessm::Error>(())
/// ```
pub struct Launched {
    communicator: Arc<dyn Communicator>,
    #[cfg(feature = "mpi")]
    session: Option<super::mpi::Session>,
    #[cfg(feature = "nccl")]
    nccl: Option<Arc<super::nccl::Nccl>>,
}

impl std::fmt::Debug for Launched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Launched({:?})", self.communicator)
    }
}

impl Launched {
    fn alone() -> Self {
        Launched {
            communicator: Arc::new(Alone),
            #[cfg(feature = "mpi")]
            session: None,
            #[cfg(feature = "nccl")]
            nccl: None,
        }
    }

    /// Joins the processes that were started with this one; alone where no launcher says that there are any.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) where MPI cannot be started.
    #[cfg(feature = "mpi")]
    pub fn join() -> Result<Self> {
        if TOLD.iter().all(|name| std::env::var_os(name).is_none()) {
            return Ok(Self::alone());
        }
        let (communicator, session) = super::mpi::join()?;
        let mut launched = Self::alone();
        (launched.communicator, launched.session) = (Arc::new(communicator), Some(session));
        Ok(launched)
    }

    /// Alone, where no launcher says that there are others.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where there are: each would do all the work, and write to the same folder.
    #[cfg(not(feature = "mpi"))]
    pub fn join() -> Result<Self> {
        let told = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"].iter().filter_map(|name| std::env::var(name).ok());
        match told.filter_map(|size| size.parse::<u64>().ok()).find(|&size| size > 1) {
            Some(size) => {
                let help = "a launcher has started so many, and this build knows no others: build with --features mpi, or start one";
                Err(crate::error::Error::config("processes", size, help))
            }
            None => Ok(Self::alone()),
        }
    }

    /// Has their gradients carried by `transport`: all of them call this, before the communicator is used. With NCCL each has a device of its
    /// own: the one that `backend` names, as in `cuda:1`, or else one by its number among those of its machine. The sums are the same bits.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where this build lacks it; [`Error::Device`](crate::Error::Device) where a library or a device is
    /// missing, or two processes have the same one.
    #[cfg(feature = "nccl")]
    pub fn carry_by(&mut self, transport: Transport, backend: BackendChoice) -> Result<()> {
        let device = match backend {
            BackendChoice::Device(crate::backend::Driver::Cuda, index) => Some(index),
            _ => None,
        };
        // One process that no launcher has started has nobody to reach.
        if transport == Transport::Nccl && self.session.is_some() {
            let nccl = Arc::new(super::nccl::Nccl::over(self.communicator.clone(), device)?);
            (self.communicator, self.nccl) = (nccl.clone(), Some(nccl));
        }
        Ok(())
    }

    /// Has their gradients carried by MPI.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) where they are to be carried by what this build lacks.
    #[cfg(not(feature = "nccl"))]
    pub fn carry_by(&mut self, transport: Transport, _: BackendChoice) -> Result<()> {
        match transport {
            Transport::Mpi => Ok(()),
            Transport::Nccl => Err(crate::error::Error::config("--transport", "nccl", "this build lacks it: build with --features nccl")),
        }
    }

    /// The processes.
    pub fn communicator(&self) -> Arc<dyn Communicator> {
        self.communicator.clone()
    }

    /// Leaves them, once nothing of the run is left that reaches them. After a failure that they may not know of, they are given some seconds to
    /// end too. A process that ends without this has failed.
    pub fn leave(self, failed: bool) {
        let _ = failed;
        #[cfg(feature = "mpi")]
        if let Some(session) = self.session {
            if failed {
                super::mpi::end_soon();
            }
            #[cfg(feature = "nccl")]
            if let Some(nccl) = self.nccl {
                nccl.end();
            }
            drop(self.communicator);
            session.end();
        }
    }
}
