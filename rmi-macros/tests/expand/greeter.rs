/// Greets.
#[rmi_node]
pub trait Greeter: Send + Sync {
    /// Says hello.
    async fn hello(&self, name: &str) -> String;

    async fn twice(&self, name: &str) -> String {
        let once = self.hello(name).await;
        format!("{once} {once}")
    }

    fn language(&self) -> Language;
}
