//! jsonrpsee 0.26 over WebSocket.
//!
//! Bodies of up to 256 MiB, and buffers for 4,096 messages. JSON has no bytes, so a blob is a text in base64.

use std::sync::Arc;
use std::time::Duration;

use ::jsonrpsee::core::{RpcResult, async_trait};
use ::jsonrpsee::proc_macros::rpc;
use ::jsonrpsee::server::{Server, ServerConfig};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonrpsee_ws_client::{WsClient, WsClientBuilder};
use tokio::task::JoinHandle;

use crate::spawn_lanes;
use crate::workload::{self, Caller, Lane, Op, Record, Result, System};

const LARGEST: u32 = 256 << 20;
const BUFFER: u32 = 4096;

#[rpc(server, client)]
trait Work {
    #[method(name = "add")]
    async fn add(&self, a: i64, b: i64) -> RpcResult<i64>;
    #[method(name = "echo_record")]
    async fn echo_record(&self, record: Record) -> RpcResult<Record>;
    #[method(name = "echo_blob")]
    async fn echo_blob(&self, blob: Base64) -> RpcResult<Base64>;
    #[method(name = "burn_offloaded")]
    async fn burn_offloaded(&self) -> RpcResult<()>;
    #[method(name = "burn_in_task")]
    async fn burn_in_task(&self) -> RpcResult<()>;
}

/// Bytes that are base64 in JSON.
#[derive(Debug, Clone)]
pub struct Base64(Vec<u8>);

impl serde::Serialize for Base64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> serde::Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Base64;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                BASE64_STANDARD.decode(text).map(Base64).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

struct Served;

#[async_trait]
impl WorkServer for Served {
    async fn add(&self, a: i64, b: i64) -> RpcResult<i64> {
        Ok(a + b)
    }

    async fn echo_record(&self, record: Record) -> RpcResult<Record> {
        Ok(record)
    }

    async fn echo_blob(&self, blob: Base64) -> RpcResult<Base64> {
        Ok(blob)
    }

    async fn burn_offloaded(&self) -> RpcResult<()> {
        // It ends before the process does.
        let _ = tokio::task::spawn_blocking(workload::burn).await;
        Ok(())
    }

    async fn burn_in_task(&self) -> RpcResult<()> {
        workload::burn();
        Ok(())
    }
}

pub struct Jsonrpsee;

impl System for Jsonrpsee {
    type Caller = JsonrpseeCaller;

    const SKIPS: &'static [&'static str] = &["H"];

    async fn serve(ready: impl FnOnce(String)) -> Result<()> {
        let config = ServerConfig::builder()
            .ws_only()
            .max_request_body_size(LARGEST)
            .max_response_body_size(LARGEST)
            .max_connections(4096)
            .set_message_buffer_capacity(BUFFER)
            .set_tcp_no_delay(true)
            .build();
        let server = Server::builder().set_config(config).build("127.0.0.1:0").await?;
        ready(format!("ws://{}", server.local_addr()?));
        server.start(Served.into_rpc()).stopped().await;
        Ok(())
    }

    async fn connect(address: &str) -> Result<JsonrpseeCaller> {
        let client = WsClientBuilder::new()
            .max_request_size(LARGEST)
            .max_response_size(LARGEST)
            .max_frame_size(LARGEST)
            .max_concurrent_requests(BUFFER as usize)
            .request_timeout(Duration::from_secs(60))
            .set_tcp_no_delay(true)
            .build(address)
            .await?;
        Ok(JsonrpseeCaller { client: Arc::new(client), record: Record::example() })
    }
}

#[derive(Clone)]
pub struct JsonrpseeCaller {
    client: Arc<WsClient>,
    record: Record,
}

impl Caller for JsonrpseeCaller {
    type Blob = Vec<u8>;

    fn blob(bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    async fn add(&self, a: i64, b: i64) -> Result<i64> {
        Ok(WorkClient::add(&*self.client, a, b).await?)
    }

    async fn echo_record(&self) -> Result<u64> {
        Ok(WorkClient::echo_record(&*self.client, self.record.clone()).await?.id)
    }

    async fn echo_blob(&self, blob: Vec<u8>) -> Result<(Vec<u8>, usize)> {
        let Base64(blob) = WorkClient::echo_blob(&*self.client, Base64(blob)).await?;
        let len = blob.len();
        Ok((blob, len))
    }

    async fn burn_offloaded(&self) -> Result<()> {
        Ok(WorkClient::burn_offloaded(&*self.client).await?)
    }

    async fn burn_in_task(&self) -> Result<()> {
        Ok(WorkClient::burn_in_task(&*self.client).await?)
    }

    fn start(&self, op: Op, lanes: Vec<Lane>) -> Vec<JoinHandle<Result<Lane>>> {
        spawn_lanes!(self, op, lanes)
    }
}
