//! The refusal of a call before its method runs.

use std::time::Duration;

use crate::bind::BindError;
use crate::exception::Exception;
use crate::kind::Kind;

/// The refusal of a call whose method has not run.
#[derive(Debug, Clone)]
pub struct Rejection {
    exception: Box<Exception>,
}

impl Rejection {
    /// A refusal of this kind that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { exception: Box::new(Exception::new(kind, message)) }
    }

    /// The same with a time after which it is worth to try again.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.exception.retry_after = Some(retry_after);
        self
    }

    /// What happened.
    pub fn kind(&self) -> Kind {
        self.exception.kind
    }

    /// The refusal as it travels.
    pub fn into_exception(self) -> Exception {
        *self.exception
    }
}

impl From<BindError> for Rejection {
    fn from(error: BindError) -> Self {
        let mut rejection = Self::new(Kind::BadArguments, error.to_string());
        rejection.exception.type_name = std::any::type_name::<BindError>().into();
        rejection
    }
}
