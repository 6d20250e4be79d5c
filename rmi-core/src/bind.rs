//! stub
use crate::descriptor::MethodDescriptor;
/// e
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// b
    #[error("{method}() argument '{param}': {message}")]
    BadValue { method: &'static str, param: &'static str, message: String },
}
/// b
#[derive(Debug)]
pub struct Bound<'a>(std::marker::PhantomData<&'a ()>);
impl<'a> Bound<'a> {
    /// t
    pub fn take(&mut self) -> Option<&'a [u8]> {
        None
    }
    /// p
    pub fn param_idx(&self) -> usize {
        0
    }
}
/// b
pub fn bind<'a>(
    _method: &'static MethodDescriptor,
    _args: &'a [u8],
    _kwargs: Option<&'a [u8]>,
) -> Result<Bound<'a>, BindError> {
    Ok(Bound(std::marker::PhantomData))
}
