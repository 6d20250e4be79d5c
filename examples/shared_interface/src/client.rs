//! The client: all that it knows of the server is the interface and an address.

use guestbook::{GuestbookStub, SignError};

pub(crate) async fn run(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let peer = rmi::connect(address).name("visitor").await?;
    let book = GuestbookStub::new(&peer);

    println!("entry {}", book.sign("I was here").await?);
    println!("entry {}", book.sign("and here again").await?);
    for entry in book.last(None).await? {
        println!("  {}: {}", entry.author, entry.text);
    }

    // The error is the interface's own type again; what stands around it says where it comes from.
    match book.sign(&"x".repeat(41)).await {
        Ok(number) => println!("entry {number}"),
        Err(error) => match error.cause() {
            Some(SignError::TooLong { most, .. }) => println!("too long: {most} bytes are allowed"),
            Some(other) => println!("refused: {other}"),
            None => return Err(error.into()),
        },
    }
    Ok(())
}
