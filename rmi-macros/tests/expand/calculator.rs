/// Counts, for those who cannot.
#[rmi_node]
impl Calculator {
    /// Adds two integers.
    async fn add(&self, a: i64, #[rmi(default = 1)] b: i64) -> i64 {
        a + b
    }

    /// Divides, or raises.
    async fn div(&self, a: i64, b: i64) -> Result<i64, MathError> {
        a.checked_div(b).ok_or(MathError::DivisionByZero)
    }

    /// `caller` is the calling peer: given by the node, never sent.
    async fn greet(&self, caller: &Peer, name: &str) -> String {
        format!("hello {name}, from {}", caller.name())
    }

    pub fn factors(&self, n: u64, #[rmi(keyword, default)] limit: Option<u64>) -> Vec<u64> {
        factors(n, limit)
    }

    #[rmi(cpu)]
    fn sum(&self, values: &[i64]) -> i64 {
        values.iter().sum()
    }

    #[rmi(direct, idempotent)]
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    #[rmi(oneway)]
    async fn reset(&self) {}

    #[rmi(name = "power", timeout = "250ms", allow = "admin", no_cancel)]
    async fn pow(&self, #[rmi(positional)] base: i64, #[rmi(default = 2)] exponent: u32) -> CalcResult<i64> {
        base.checked_pow(exponent).ok_or(MathError::Overflow)
    }

    #[cfg(feature = "old")]
    #[deprecated = "use add"]
    async fn plus(&self, a: i64, b: i64) -> i64 {
        a + b
    }

    async fn origin(&self) -> Point {
        Point::default()
    }

    #[rmi(skip)]
    fn local(&mut self) {}
}
