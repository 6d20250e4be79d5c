//! What `main` and `unwrap` print of an error: its words and those of its sources, as for an `InvocationException`.
//!
//! These are the errors that a newcomer meets before the first call; their fields can be matched on all the same.

use std::fmt;

use rmi_core::exception::write_chain;

use crate::{AddressError, ConnectError, LookupError, ServeError, StartError, WaitError};

macro_rules! print_in_words {
    ($($error:ty)*) => {$(
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_chain(self, f)
            }
        }
    )*};
}

print_in_words!(AddressError ConnectError LookupError ServeError StartError WaitError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_the_whole_story() {
        let source = std::io::Error::other("Connection refused").into();
        let error = ConnectError::Failed { address: "tcp://127.0.0.1:1".into(), source };
        assert_eq!(format!("{error:?}"), "cannot connect to tcp://127.0.0.1:1\n  caused by: Connection refused");
        assert!(format!("{:?}", StartError::NoRuntime).starts_with("there is no tokio runtime here"));
    }
}
