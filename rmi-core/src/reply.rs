//! What a method may return, and how it becomes a response.
//!
//! A plain value or a `Result`. The error of a `Result` is either a type of its own, which comes back as that type,
//! or [`Failure`], which takes any error and comes back as [`RemoteError`]. The three traits here are implemented for
//! all types that qualify; they exist so that the compiler can say in plain words what is missing where one does not.

use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exception::{Exception, RemoteError, exception_of};
use crate::kind::Kind;
use crate::message::Response;
use crate::payload::Payload;

/// A value that can travel: as an argument or as a result.
///
/// Implemented for everything that is `Serialize + DeserializeOwned + Send + 'static`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between nodes",
    label = "derive `Serialize` and `Deserialize` for `{Self}`",
    note = "remote methods take and return values of types that are `serde::Serialize`, `serde::Deserialize`, `Send` and `'static`"
)]
pub trait Reply: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Reply for T {}

/// An error that a method may return.
///
/// Implemented for every error that is `Serialize + DeserializeOwned`, and for [`Failure`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be raised remotely",
    label = "this error cannot travel between nodes",
    note = "an error that travels is `std::error::Error + serde::Serialize + serde::Deserialize + Send + Sync + 'static`",
    note = "for any other error return `rmi::Result<T>`: it takes every error by `?` and keeps its words and sources"
)]
pub trait RemoteCause: Sized + 'static {
    /// What the caller's exception holds.
    type Received: RemoteCause + Error + Send + Sync + 'static;

    /// The error on its way out.
    #[doc(hidden)]
    fn raise(self) -> Exception;

    /// The cause at the caller: typed if it can be decoded, else the text.
    #[doc(hidden)]
    fn receive(remote: RemoteError) -> Box<dyn Error + Send + Sync>;
}

#[diagnostic::do_not_recommend]
impl<E: Error + Serialize + DeserializeOwned + Send + Sync + 'static> RemoteCause for E {
    type Received = E;

    fn raise(self) -> Exception {
        let mut exception = Exception::raised(&self, std::any::type_name::<E>());
        // An error that does not encode still has its words.
        exception.payload = Payload::encode(&self).ok();
        exception
    }

    fn receive(remote: RemoteError) -> Box<dyn Error + Send + Sync> {
        match remote.decode::<E>() {
            Ok(error) => Box::new(error),
            Err(_) => Box::new(remote),
        }
    }
}

#[diagnostic::do_not_recommend]
impl RemoteCause for RemoteError {
    type Received = RemoteError;

    fn raise(self) -> Exception {
        self.handed_on()
    }

    fn receive(remote: RemoteError) -> Box<dyn Error + Send + Sync> {
        Box::new(remote)
    }
}

#[diagnostic::do_not_recommend]
impl RemoteCause for Failure {
    type Received = RemoteError;

    fn raise(self) -> Exception {
        *self.exception
    }

    fn receive(remote: RemoteError) -> Box<dyn Error + Send + Sync> {
        Box::new(remote)
    }
}

/// `Result` with an error that takes every other by `?`: for methods whose errors have no common type that can travel.
///
/// The caller gets a [`RemoteError`] with the type name, the words and the whole chain of sources. A mere text is no
/// error: raise it with `Err(Failure::msg("no such key"))`.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Any error, on its way to a caller. It is not an `Error` itself, so that `?` can turn every error into it.
///
/// An error that already came from another node is handed on whole: the caller's `root_exc` is the innermost cause,
/// and `decode` still gives its type.
pub struct Failure {
    exception: Box<Exception>,
}

impl Failure {
    /// A failure with these words and no type.
    pub fn msg(message: impl fmt::Display) -> Self {
        Self { exception: Box::new(Exception::new(Kind::Raised, message.to_string())) }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exception: Box::new(exception_of(&error, std::any::type_name::<E>())) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.exception.message)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.exception.message)?;
        self.exception.chain.iter().try_for_each(|message| write!(f, "\n  caused by: {message}"))
    }
}

/// What a method returns, taken apart: lets the macro see through aliases of `Result`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named like a `Result` but is none",
    label = "this is returned as an ordinary value",
    note = "mark the method with `#[rmi(infallible)]` if it returns an ordinary value"
)]
pub trait MethodResult {
    /// The value.
    type Ok;
    /// The error.
    type Err;

    /// The `Result` that it is.
    #[doc(hidden)]
    fn into_result(self) -> std::result::Result<Self::Ok, Self::Err>;
}

#[diagnostic::do_not_recommend]
impl<T, E> MethodResult for std::result::Result<T, E> {
    type Ok = T;
    type Err = E;

    fn into_result(self) -> Self {
        self
    }
}

/// The response of a method that returned `value`.
pub fn reply_value<T: Reply>(value: T) -> Response {
    match Payload::encode(&value) {
        Ok(payload) => Response::Value(payload),
        Err(error) => Response::exception(Exception::new(Kind::ResponseEncode, error.to_string())),
    }
}

/// The response of a method that returned a `Result`.
pub fn reply_result<R>(result: R) -> Response
where
    R: MethodResult,
    R::Ok: Reply,
    R::Err: RemoteCause,
{
    match result.into_result() {
        Ok(value) => reply_value(value),
        Err(error) => Response::exception(error.raise()),
    }
}
