/// Counts, for those who cannot.
impl Calculator {
    /// Adds two integers.
    async fn add(&self, a: i64, b: i64) -> i64 {
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
    pub fn factors(&self, n: u64, limit: Option<u64>) -> Vec<u64> {
        factors(n, limit)
    }
    fn sum(&self, values: &[i64]) -> i64 {
        values.iter().sum()
    }
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
    async fn reset(&self) {}
    async fn pow(&self, base: i64, exponent: u32) -> CalcResult<i64> {
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
    fn local(&mut self) {}
}
#[allow(
    dead_code,
    deprecated,
    private_bounds,
    private_interfaces,
    unreachable_pub,
    unused_imports,
    unused_qualifications,
    unused_variables,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
const _: () = {
    #[automatically_derived]
    impl ::rmi::__private::Service<CalculatorStub> for Calculator {
        const DESCRIPTOR: &'static ::rmi::__private::ServiceDescriptor = &::rmi::__private::ServiceDescriptor::new(
            "Calculator",
            "Counts, for those who cannot.",
            &[
                ::rmi::__private::MethodDescriptor::new(
                    "add",
                    "Adds two integers.",
                    &[
                        ::rmi::__private::ParamDescriptor::required("a", "i64"),
                        ::rmi::__private::ParamDescriptor::defaulted("b", "i64", "1"),
                    ],
                    "i64",
                    ::rmi::__private::Execution::Async,
                ),
                ::rmi::__private::MethodDescriptor::new(
                        "div",
                        "Divides, or raises.",
                        &[
                            ::rmi::__private::ParamDescriptor::required("a", "i64"),
                            ::rmi::__private::ParamDescriptor::required("b", "i64"),
                        ],
                        "Result<i64, MathError>",
                        ::rmi::__private::Execution::Async,
                    )
                    .raises("MathError"),
                ::rmi::__private::MethodDescriptor::new(
                    "greet",
                    "`caller` is the calling peer: given by the node, never sent.",
                    &[::rmi::__private::ParamDescriptor::required("name", "&str")],
                    "String",
                    ::rmi::__private::Execution::Async,
                ),
                ::rmi::__private::MethodDescriptor::new(
                    "factors",
                    "",
                    &[
                        ::rmi::__private::ParamDescriptor::required("n", "u64"),
                        ::rmi::__private::ParamDescriptor::defaulted(
                                "limit",
                                "Option<u64>",
                                "Default::default()",
                            )
                            .keyword_only(),
                    ],
                    "Vec<u64>",
                    ::rmi::__private::Execution::Blocking,
                ),
                ::rmi::__private::MethodDescriptor::new(
                    "sum",
                    "",
                    &[::rmi::__private::ParamDescriptor::required("values", "&[i64]")],
                    "i64",
                    ::rmi::__private::Execution::Compute,
                ),
                ::rmi::__private::MethodDescriptor::new(
                        "count",
                        "",
                        &[],
                        "usize",
                        ::rmi::__private::Execution::Direct,
                    )
                    .idempotent(),
                ::rmi::__private::MethodDescriptor::new(
                        "reset",
                        "",
                        &[],
                        "()",
                        ::rmi::__private::Execution::Async,
                    )
                    .one_way(),
                ::rmi::__private::MethodDescriptor::new(
                        "power",
                        "",
                        &[
                            ::rmi::__private::ParamDescriptor::required("base", "i64")
                                .positional_only(),
                            ::rmi::__private::ParamDescriptor::defaulted(
                                "exponent",
                                "u32",
                                "2",
                            ),
                        ],
                        "CalcResult<i64>",
                        ::rmi::__private::Execution::Async,
                    )
                    .raises("_")
                    .no_cancel()
                    .timeout(::rmi::__private::Duration::from_millis(250u64))
                    .allow("admin"),
                #[cfg(feature = "old")]
                ::rmi::__private::MethodDescriptor::new(
                    "plus",
                    "",
                    &[
                        ::rmi::__private::ParamDescriptor::required("a", "i64"),
                        ::rmi::__private::ParamDescriptor::required("b", "i64"),
                    ],
                    "i64",
                    ::rmi::__private::Execution::Async,
                ),
                ::rmi::__private::MethodDescriptor::new(
                    "origin",
                    "",
                    &[],
                    "Point",
                    ::rmi::__private::Execution::Async,
                ),
            ],
        );
        fn dispatch(
            self: ::rmi::__private::Arc<Self>,
            __rmi_call: &::rmi::__private::Call<'_>,
        ) -> ::core::result::Result<
            ::rmi::__private::Dispatch,
            ::rmi::__private::Rejection,
        > {
            use ::rmi::__private::IsNoResult as _;
            match ::rmi::__private::Call::method(__rmi_call) {
                "add" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    let __rmi_1 = ::rmi::__private::Slots::take_or::<
                        i64,
                    >(&mut __rmi_slots, || 1)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_value::<
                                i64,
                            >(Self::add(&*self, __rmi_0, __rmi_1).await)
                        }),
                    )
                }
                "div" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    let __rmi_1 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_result::<
                                Result<i64, MathError>,
                            >(Self::div(&*self, __rmi_0, __rmi_1).await)
                        }),
                    )
                }
                "greet" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = <Peer as ::rmi::__private::FromCall>::from_call(
                        ::rmi::__private::Call::context(__rmi_call),
                    )?;
                    let __rmi_1 = ::rmi::__private::Slots::take::<
                        <str as ::rmi::__private::ToOwned>::Owned,
                    >(&mut __rmi_slots)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_value::<
                                String,
                            >(
                                Self::greet(
                                        &*self,
                                        &__rmi_0,
                                        ::rmi::__private::Borrow::<str>::borrow(&__rmi_1),
                                    )
                                    .await,
                            )
                        }),
                    )
                }
                "factors" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        u64,
                    >(&mut __rmi_slots)?;
                    let __rmi_1 = ::rmi::__private::Slots::take_or::<
                        Option<u64>,
                    >(&mut __rmi_slots, ::core::default::Default::default)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::closure(move || ::rmi::__private::reply_value::<
                            Vec<u64>,
                        >(Self::factors(&*self, __rmi_0, __rmi_1))),
                    )
                }
                "sum" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        <[i64] as ::rmi::__private::ToOwned>::Owned,
                    >(&mut __rmi_slots)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::closure(move || ::rmi::__private::reply_value::<
                            i64,
                        >(
                            Self::sum(
                                &*self,
                                ::rmi::__private::Borrow::<[i64]>::borrow(&__rmi_0),
                            ),
                        )),
                    )
                }
                "count" => {
                    ::rmi::__private::Call::bind(__rmi_call)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::Done(
                            ::rmi::__private::reply_value::<usize>(Self::count(&*self)),
                        ),
                    )
                }
                "reset" => {
                    ::rmi::__private::Call::bind(__rmi_call)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_value::<
                                (),
                            >(Self::reset(&*self).await)
                        }),
                    )
                }
                "power" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    let __rmi_1 = ::rmi::__private::Slots::take_or::<
                        u32,
                    >(&mut __rmi_slots, || 2)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_result::<
                                CalcResult<i64>,
                            >(Self::pow(&*self, __rmi_0, __rmi_1).await)
                        }),
                    )
                }
                #[cfg(feature = "old")]
                "plus" => {
                    let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                    let __rmi_0 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    let __rmi_1 = ::rmi::__private::Slots::take::<
                        i64,
                    >(&mut __rmi_slots)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_value::<
                                i64,
                            >(Self::plus(&*self, __rmi_0, __rmi_1).await)
                        }),
                    )
                }
                "origin" => {
                    ::rmi::__private::returns_a_plain_value(
                        ::rmi::__private::Returned::<Point>::KIND,
                    );
                    ::rmi::__private::Call::bind(__rmi_call)?;
                    ::core::result::Result::Ok(
                        ::rmi::__private::Dispatch::task(async move {
                            ::rmi::__private::reply_value::<
                                Point,
                            >(Self::origin(&*self).await)
                        }),
                    )
                }
                _ => {
                    ::core::result::Result::Err(
                        ::rmi::__private::no_such_method(__rmi_call),
                    )
                }
            }
        }
    }
};
///Calls `Calculator` on another node.
///
/// Counts, for those who cannot.
#[allow(dead_code, unreachable_pub)]
pub struct CalculatorStub {
    remote: ::rmi::__private::Remote,
}
#[allow(
    dead_code,
    deprecated,
    private_bounds,
    private_interfaces,
    unreachable_pub,
    unused_imports,
    unused_qualifications,
    unused_variables,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
impl CalculatorStub {
    /// The service under its own name, on `peer`.
    pub fn new(peer: impl ::core::convert::Into<::rmi::__private::Remote>) -> Self {
        Self::named(peer, "Calculator")
    }
    /// The service that `peer` serves as `name`.
    pub fn named(
        peer: impl ::core::convert::Into<::rmi::__private::Remote>,
        name: impl ::core::convert::Into<::rmi::__private::Name>,
    ) -> Self {
        let peer: ::rmi::__private::Remote = ::core::convert::Into::into(peer);
        Self {
            remote: ::rmi::__private::Remote::with_service(peer, name),
        }
    }
    /// Calls `service` in this process, without a network: for tests.
    pub fn local(service: Calculator) -> Self {
        Self {
            remote: ::rmi::__private::local::<Self>(service),
        }
    }
    /// Adds two integers.
    fn add(
        &self,
        a: i64,
        b: ::core::option::Option<i64>,
    ) -> ::rmi::__private::Invocation<i64> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(&a);
        __rmi_args.push_defaulted("b", ::core::option::Option::as_ref(&b));
        ::rmi::__private::Remote::call(&self.remote, "add", __rmi_args)
    }
    /// Divides, or raises.
    fn div(
        &self,
        a: i64,
        b: i64,
    ) -> ::rmi::__private::ResultInvocation<Result<i64, MathError>> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(&a);
        __rmi_args.push(&b);
        ::rmi::__private::Remote::call(&self.remote, "div", __rmi_args)
    }
    /// `caller` is the calling peer: given by the node, never sent.
    fn greet(&self, name: &str) -> ::rmi::__private::Invocation<String> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(name);
        ::rmi::__private::Remote::call(&self.remote, "greet", __rmi_args)
    }
    ///Calls `factors`.
    pub fn factors(
        &self,
        n: u64,
        limit: ::core::option::Option<Option<u64>>,
    ) -> ::rmi::__private::Invocation<Vec<u64>> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(&n);
        __rmi_args
            .push_defaulted_keyword("limit", ::core::option::Option::as_ref(&limit));
        ::rmi::__private::Remote::call(&self.remote, "factors", __rmi_args)
    }
    ///Calls `sum`.
    fn sum(&self, values: &[i64]) -> ::rmi::__private::Invocation<i64> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(values);
        ::rmi::__private::Remote::call(&self.remote, "sum", __rmi_args)
    }
    ///Calls `count`.
    fn count(&self) -> ::rmi::__private::Invocation<usize> {
        let __rmi_args = ::rmi::__private::Args::new();
        ::rmi::__private::Remote::call(&self.remote, "count", __rmi_args)
    }
    ///Calls `reset`.
    fn reset(&self) -> ::rmi::__private::Invocation<()> {
        let __rmi_args = ::rmi::__private::Args::new();
        ::rmi::__private::Remote::call(&self.remote, "reset", __rmi_args).one_way()
    }
    ///Calls `power`.
    fn pow(
        &self,
        base: i64,
        exponent: ::core::option::Option<u32>,
    ) -> ::rmi::__private::ResultInvocation<CalcResult<i64>> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(&base);
        __rmi_args.push_defaulted("exponent", ::core::option::Option::as_ref(&exponent));
        ::rmi::__private::Remote::call(&self.remote, "power", __rmi_args)
            .no_cancel()
            .default_timeout(::rmi::__private::Duration::from_millis(250u64))
    }
    ///Calls `plus`.
    #[cfg(feature = "old")]
    #[deprecated = "use add"]
    fn plus(&self, a: i64, b: i64) -> ::rmi::__private::Invocation<i64> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(&a);
        __rmi_args.push(&b);
        ::rmi::__private::Remote::call(&self.remote, "plus", __rmi_args)
    }
    ///Calls `origin`.
    fn origin(&self) -> ::rmi::__private::Invocation<Point> {
        let __rmi_args = ::rmi::__private::Args::new();
        ::rmi::__private::Remote::call(&self.remote, "origin", __rmi_args)
    }
}
#[allow(
    dead_code,
    deprecated,
    private_bounds,
    private_interfaces,
    unreachable_pub,
    unused_imports,
    unused_qualifications,
    unused_variables,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
const _: () = {
    #[automatically_derived]
    impl ::core::clone::Clone for CalculatorStub {
        fn clone(&self) -> Self {
            Self {
                remote: ::core::clone::Clone::clone(&self.remote),
            }
        }
    }
    #[automatically_derived]
    impl ::core::fmt::Debug for CalculatorStub {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            ::rmi::__private::fmt_stub(f, "CalculatorStub", &self.remote)
        }
    }
};
