//! Services: what `#[rmi_node]` implements and a node calls.
//!
//! A service never spawns and never waits. [`Service::dispatch`] binds and decodes the arguments at once, so bad calls
//! end before anything runs, and gives back what is to be run, as data: the node decides where.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use crate::bind::{self, Bound};
use crate::context::CallContext;
use crate::descriptor::{Execution, MethodDescriptor, ServiceDescriptor};
use crate::kind::Kind;
use crate::message::Response;
use crate::payload;
use crate::positional::Positional;
use crate::rejection::Rejection;
use crate::reply::Reply;
pub use crate::seat::MethodFuture;

/// An object whose methods can be called by other nodes. Implemented by `#[rmi_node]`, not by hand.
///
/// `M` is the stub's type. It tells the interfaces of one type apart: `node.serve(x)` infers it when there is only one,
/// `node.serve::<GreeterStub>(x)` chooses.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service",
    label = "has no remote methods",
    note = "write `#[rmi_node]` on `impl {Self} {{ .. }}`, or on a trait and on its `impl .. for {Self}`"
)]
pub trait Service<M>: Send + Sync + 'static {
    /// What the service offers.
    const DESCRIPTOR: &'static ServiceDescriptor;

    /// Binds and decodes the arguments of a call and gives back what is to be run.
    ///
    /// # Errors
    /// The refusal, if the call does not fit the method.
    #[doc(hidden)]
    fn dispatch(self: Arc<Self>, call: &Call<'_>) -> Result<Dispatch, Rejection>;
}

/// What is to be run for a call. Its result is the response.
pub enum Dispatch {
    /// An `async` method.
    Task(MethodFuture),
    /// A plain method.
    Closure(Box<dyn FnOnce() -> Response + Send>),
    /// A `direct` method, already run.
    Done(Response),
}

impl Dispatch {
    /// An `async` method.
    pub fn task(future: impl Future<Output = Response> + Send + 'static) -> Self {
        Self::Task(MethodFuture::new(future))
    }

    /// A plain method.
    pub fn closure(f: impl FnOnce() -> Response + Send + 'static) -> Self {
        Self::Closure(Box::new(f))
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dispatch::Task(_) => "Task",
            Dispatch::Closure(_) => "Closure",
            Dispatch::Done(_) => "Done",
        })
    }
}

/// A call that reached the method's node: borrowed from the buffer in which it came.
#[derive(Debug)]
pub struct Call<'a> {
    method: &'static MethodDescriptor,
    args: Positional<'a>,
    kwargs: Option<&'a [u8]>,
    attachments: &'a [Bytes],
    context: &'a CallContext,
}

impl<'a> Call<'a> {
    /// A call of `method` with arguments that have passed the scanner; a map if there are keywords.
    pub fn new(
        method: &'static MethodDescriptor,
        args: Positional<'a>,
        kwargs: Option<&'a [u8]>,
        attachments: &'a [Bytes],
        context: &'a CallContext,
    ) -> Self {
        Self { method, args, kwargs, attachments, context }
    }

    /// The name of the method.
    pub fn method(&self) -> &'static str {
        self.method.name()
    }

    /// Whether the method runs while it is dispatched.
    pub fn is_direct(&self) -> bool {
        self.method.execution() == Execution::Direct
    }

    /// What the method can know about the call.
    pub fn context(&self) -> &'a CallContext {
        self.context
    }

    /// Matches the arguments to the parameters.
    ///
    /// # Errors
    /// [`BindError`](bind::BindError) as a rejection, in Python's words.
    pub fn bind(&self) -> Result<Slots<'a>, Rejection> {
        let bound = match bind::bind_in_order(self.method, self.args, self.kwargs) {
            Some(bound) => bound,
            None => bind::bind_with_slots(self.method, self.args, self.kwargs)?,
        };
        Ok(Slots { bound, attachments: self.attachments })
    }
}

/// The arguments of a call, in the order of the parameters, each taken once.
#[derive(Debug)]
pub struct Slots<'a> {
    bound: Bound<'a>,
    attachments: &'a [Bytes],
}

impl Slots<'_> {
    /// Decodes the next argument.
    ///
    /// # Errors
    /// The rejection that names the parameter, if the value is not of its type.
    pub fn take<T: Reply>(&mut self) -> Result<T, Rejection> {
        match self.next()? {
            Some(value) => Ok(value),
            // The binder fills each required parameter or refuses the call.
            None => Err(Rejection::new(Kind::BadArguments, "a required argument was left to its default")),
        }
    }

    /// Decodes the next argument, or evaluates its default.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_or<T: Reply>(&mut self, default: impl FnOnce() -> T) -> Result<T, Rejection> {
        Ok(self.next()?.unwrap_or_else(default))
    }

    fn next<T: Reply>(&mut self) -> Result<Option<T>, Rejection> {
        let Some(bytes) = self.bound.take() else { return Ok(None) };
        match payload::decode_raw(bytes, self.attachments) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(self.bound.bad_value(bytes, &error).into()),
        }
    }
}

/// A service behind a pointer, whatever its type: what the node's table holds.
pub trait AnyService: Send + Sync + 'static {
    /// What the service offers.
    fn descriptor(&self) -> &'static ServiceDescriptor;

    /// See [`Service::dispatch`].
    ///
    /// # Errors
    /// The refusal, if the call does not fit the method.
    fn dispatch(&self, call: &Call<'_>) -> Result<Dispatch, Rejection>;
}

/// Forgets the type of a service.
pub fn erase<M: 'static>(service: Arc<impl Service<M>>) -> Arc<dyn AnyService> {
    struct Erased<S, M>(Arc<S>, PhantomData<fn() -> M>);

    impl<M: 'static, S: Service<M>> AnyService for Erased<S, M> {
        fn descriptor(&self) -> &'static ServiceDescriptor {
            S::DESCRIPTOR
        }

        fn dispatch(&self, call: &Call<'_>) -> Result<Dispatch, Rejection> {
            Arc::clone(&self.0).dispatch(call)
        }
    }

    Arc::new(Erased(service, PhantomData))
}

/// A trait with `#[rmi_node]` on it: leads from the trait to its stub and its description.
///
/// Implemented by the macro for `dyn Trait`, whatever `S` is. `S` is the type that offers the interface: with it the
/// compiler can tell the stubs of two interfaces apart also where both traits are of other crates.
#[diagnostic::on_unimplemented(
    message = "the trait of this block is not annotated with `#[rmi_node]`",
    note = "write `#[rmi_node]` on the trait too: its description and its stub are made there"
)]
pub trait Interface<S: ?Sized> {
    /// The stub of the interface.
    type Stub: 'static;
    /// What the interface offers.
    const DESCRIPTOR: &'static ServiceDescriptor;
}
