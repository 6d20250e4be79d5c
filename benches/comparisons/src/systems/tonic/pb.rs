//! What `tonic-prost-build` writes for the service `comparison.Work`, with the methods' common parts said once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::prost::Message;
use ::tonic::body::Body;
use ::tonic::client::Grpc as ClientGrpc;
use ::tonic::codegen::{BoxFuture, Service, http};
use ::tonic::server::{Grpc as ServerGrpc, NamedService, UnaryService};
use ::tonic::transport::Channel;
use ::tonic::{Request, Response, Status};
use bytes::Bytes;
use tonic_prost::ProstCodec;

#[derive(Clone, Copy, PartialEq, Message)]
pub struct AddRequest {
    #[prost(int64, tag = "1")]
    pub a: i64,
    #[prost(int64, tag = "2")]
    pub b: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct AddReply {
    #[prost(int64, tag = "1")]
    pub sum: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(double, repeated, tag = "3")]
    pub samples: Vec<f64>,
    #[prost(string, optional, tag = "4")]
    pub note: Option<String>,
    #[prost(map = "string, uint32", tag = "5")]
    pub counts: HashMap<String, u32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Blob {
    #[prost(bytes = "bytes", tag = "1")]
    pub blob: Bytes,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Empty {}

pub const ADD: &str = "/comparison.Work/Add";
pub const ECHO_RECORD: &str = "/comparison.Work/EchoRecord";
pub const ECHO_BLOB: &str = "/comparison.Work/EchoBlob";
pub const BURN_OFFLOADED: &str = "/comparison.Work/BurnOffloaded";
pub const BURN_IN_TASK: &str = "/comparison.Work/BurnInTask";

#[derive(Clone)]
pub struct WorkClient<T> {
    inner: ClientGrpc<T>,
}

impl WorkClient<Channel> {
    pub fn new(channel: Channel, largest: usize) -> Self {
        let inner = ClientGrpc::new(channel).max_decoding_message_size(largest).max_encoding_message_size(largest);
        Self { inner }
    }

    pub async fn call<Req, Rep>(&mut self, path: &'static str, request: Req) -> Result<Rep, Status>
    where
        Req: Message + Send + Sync + 'static,
        Rep: Message + Default + Send + Sync + 'static,
    {
        self.inner.ready().await.map_err(|error| Status::unknown(format!("not ready: {error}")))?;
        let codec = ProstCodec::<Req, Rep>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        Ok(self.inner.unary(Request::new(request), path, codec).await?.into_inner())
    }
}

#[::tonic::async_trait]
pub trait Work: Send + Sync + 'static {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddReply>, Status>;
    async fn echo_record(&self, request: Request<Record>) -> Result<Response<Record>, Status>;
    async fn echo_blob(&self, request: Request<Blob>) -> Result<Response<Blob>, Status>;
    async fn burn_offloaded(&self, request: Request<Empty>) -> Result<Response<Empty>, Status>;
    async fn burn_in_task(&self, request: Request<Empty>) -> Result<Response<Empty>, Status>;
}

pub struct WorkServer<T> {
    inner: Arc<T>,
    largest: usize,
}

impl<T> Clone for WorkServer<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), largest: self.largest }
    }
}

impl<T> WorkServer<T> {
    pub fn new(inner: T, largest: usize) -> Self {
        Self { inner: Arc::new(inner), largest }
    }
}

impl<T> NamedService for WorkServer<T> {
    const NAME: &'static str = "comparison.Work";
}

macro_rules! unary {
    ($server:expr, $request:expr, $method:ident: $req:ty => $rep:ty) => {{
        struct Method<T>(Arc<T>);

        impl<T: Work> UnaryService<$req> for Method<T> {
            type Response = $rep;
            type Future = BoxFuture<Response<$rep>, Status>;

            fn call(&mut self, request: Request<$req>) -> Self::Future {
                let inner = Arc::clone(&self.0);
                Box::pin(async move { T::$method(&inner, request).await })
            }
        }

        let (largest, method, request) = ($server.largest, Method(Arc::clone(&$server.inner)), $request);
        Box::pin(async move {
            let codec = ProstCodec::<$rep, $req>::default();
            let mut grpc = ServerGrpc::new(codec).max_decoding_message_size(largest).max_encoding_message_size(largest);
            Ok(grpc.unary(method, request).await)
        })
    }};
}

impl<T: Work> Service<http::Request<Body>> for WorkServer<T> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            ADD => unary!(self, request, add: AddRequest => AddReply),
            ECHO_RECORD => unary!(self, request, echo_record: Record => Record),
            ECHO_BLOB => unary!(self, request, echo_blob: Blob => Blob),
            BURN_OFFLOADED => unary!(self, request, burn_offloaded: Empty => Empty),
            BURN_IN_TASK => unary!(self, request, burn_in_task: Empty => Empty),
            _ => Box::pin(async { Ok(Status::unimplemented("no such method").into_http()) }),
        }
    }
}
