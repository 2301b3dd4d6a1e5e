//! Launch: the processes that mpirun, or another launcher, has started together.

use std::sync::Arc;

use super::communicator::{Alone, Communicator};
use crate::error::Result;

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
        Ok(Launched { communicator: Arc::new(communicator), session: Some(session) })
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
            drop(self.communicator);
            session.end(failed);
        }
    }
}
