#![allow(unused)]

use rmi::rmi_node;

#[derive(serde::Serialize, serde::Deserialize)]
struct SearchResult;

struct Service;

#[rmi_node]
impl Service {
    async fn m(&self) -> SearchResult {
        SearchResult
    }
}

fn main() {}
