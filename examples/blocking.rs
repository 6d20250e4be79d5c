//! Can a program without `async` use it? Yes: plain methods, and `wait()` where others write `.await`.

use rmi::{Node, Peer, rmi_node};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Plain methods run on threads of their own, so they may lock, read files, and call others.
#[derive(Default)]
struct Inventory {
    stock: Mutex<BTreeMap<String, u32>>,
}

#[rmi_node]
impl Inventory {
    fn put(&self, item: &str, count: u32) -> u32 {
        let mut stock = self.stock.lock().unwrap_or_else(PoisonError::into_inner);
        let total = stock.entry(item.to_owned()).or_default();
        *total += count;
        *total
    }

    /// Reads from a slow disk, and then asks the caller whether that will do.
    fn report(&self, caller: &Peer) -> rmi::Result<String> {
        std::thread::sleep(Duration::from_millis(20));
        let text = format!("{:?}", self.stock.lock().unwrap_or_else(PoisonError::into_inner));
        let is_enough = DeskStub::new(caller).is_enough(&text).wait()?;
        Ok(if is_enough { text } else { "nothing to report".into() })
    }
}

struct Desk;

#[rmi_node]
impl Desk {
    fn is_enough(&self, report: &str) -> bool {
        println!("is {report} enough?");
        !report.is_empty()
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Each node brings a runtime of its own, which ends with it.
    let server =
        Node::builder().name("server").listen("tcp://127.0.0.1:0").serve(Inventory::default()).start().wait()?;
    let client = Node::builder().name("client").seeds(server.addresses()).serve(Desk).start().wait()?;
    let peer = client.peer("server").wait()?;
    let inventory = InventoryStub::new(&peer);

    println!("{} nails", inventory.put("nails", 100).wait()?);
    println!("{} nails", inventory.put("nails", 20).with_timeout(Duration::from_secs(1)).wait()?);
    println!("{}", inventory.report().wait()?);

    // Several at once, from one thread: they are sent now, and waited for later.
    let pending = ["screws", "bolts", "nuts"].map(|item| (item, inventory.put(item, 7).send()));
    for (item, invocation) in pending {
        println!("{} {item}", invocation.wait()?);
    }

    client.shutdown(Duration::from_secs(1)).wait();
    server.shutdown(Duration::from_secs(1)).wait();
    Ok(())
}
