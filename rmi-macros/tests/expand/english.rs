#[rmi_node]
impl Greeter for English {
    async fn hello(&self, name: &str) -> String {
        format!("hello {name}")
    }

    fn language(&self) -> Language {
        Language::English
    }
}
