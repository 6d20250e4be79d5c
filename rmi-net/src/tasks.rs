//! Tasks whose futures stand behind a pointer.
//!
//! The runtime's code for a task is compiled once for each type of future. These have one type, which makes a program
//! smaller by some hundred kilobytes and costs one allocation where a task starts.

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::seam::BoxFuture;

/// Starts a task.
pub(crate) fn spawn(runtime: &Handle, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let future: BoxFuture<'static, ()> = Box::pin(future);
    runtime.spawn(future)
}
