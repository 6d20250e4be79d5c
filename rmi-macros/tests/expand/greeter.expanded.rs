/// Greets.
pub trait Greeter: Send + Sync {
    /// Says hello.
    fn hello(
        &self,
        name: &str,
    ) -> impl ::core::future::Future<Output = String> + ::core::marker::Send
    where
        Self: ::core::marker::Sized;
    fn twice(
        &self,
        name: &str,
    ) -> impl ::core::future::Future<Output = String> + ::core::marker::Send
    where
        Self: ::core::marker::Sized + ::core::marker::Sync,
    {
        async move {
            let once = self.hello(name).await;
            format!("{once} {once}")
        }
    }
    fn language(&self) -> Language
    where
        Self: ::core::marker::Sized;
    #[doc(hidden)]
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
    fn __rmi_dispatch_needs_rmi_node_on_the_trait(
        self: ::rmi::__private::Arc<Self>,
        __rmi_call: &::rmi::__private::Call<'_>,
    ) -> ::core::result::Result<::rmi::__private::Dispatch, ::rmi::__private::Rejection>
    where
        Self: ::core::marker::Sized + ::core::marker::Send + ::core::marker::Sync
            + 'static,
    {
        use ::rmi::__private::IsNoResult as _;
        match ::rmi::__private::Call::method(__rmi_call) {
            "hello" => {
                let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                let __rmi_0 = ::rmi::__private::Slots::take::<
                    <str as ::rmi::__private::ToOwned>::Owned,
                >(&mut __rmi_slots)?;
                ::core::result::Result::Ok(
                    ::rmi::__private::Dispatch::task(async move {
                        ::rmi::__private::reply_value::<
                            String,
                        >(
                            <Self as Greeter>::hello(
                                    &*self,
                                    ::rmi::__private::Borrow::<str>::borrow(&__rmi_0),
                                )
                                .await,
                        )
                    }),
                )
            }
            "twice" => {
                let mut __rmi_slots = ::rmi::__private::Call::bind(__rmi_call)?;
                let __rmi_0 = ::rmi::__private::Slots::take::<
                    <str as ::rmi::__private::ToOwned>::Owned,
                >(&mut __rmi_slots)?;
                ::core::result::Result::Ok(
                    ::rmi::__private::Dispatch::task(async move {
                        ::rmi::__private::reply_value::<
                            String,
                        >(
                            <Self as Greeter>::twice(
                                    &*self,
                                    ::rmi::__private::Borrow::<str>::borrow(&__rmi_0),
                                )
                                .await,
                        )
                    }),
                )
            }
            "language" => {
                ::rmi::__private::returns_a_plain_value(
                    ::rmi::__private::Returned::<Language>::KIND,
                );
                ::rmi::__private::Call::bind(__rmi_call)?;
                ::core::result::Result::Ok(
                    ::rmi::__private::Dispatch::closure(move || ::rmi::__private::reply_value::<
                        Language,
                    >(<Self as Greeter>::language(&*self))),
                )
            }
            _ => {
                ::core::result::Result::Err(::rmi::__private::no_such_method(__rmi_call))
            }
        }
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
    impl<__RmiFor: ?::core::marker::Sized> ::rmi::__private::Interface<__RmiFor>
    for dyn Greeter {
        type Stub = GreeterStub;
        const DESCRIPTOR: &'static ::rmi::__private::ServiceDescriptor = &::rmi::__private::ServiceDescriptor::new(
            "Greeter",
            "Greets.",
            &[
                ::rmi::__private::MethodDescriptor::new(
                    "hello",
                    "Says hello.",
                    &[::rmi::__private::ParamDescriptor::required("name", "&str")],
                    "String",
                    ::rmi::__private::Execution::Async,
                ),
                ::rmi::__private::MethodDescriptor::new(
                    "twice",
                    "",
                    &[::rmi::__private::ParamDescriptor::required("name", "&str")],
                    "String",
                    ::rmi::__private::Execution::Async,
                ),
                ::rmi::__private::MethodDescriptor::new(
                    "language",
                    "",
                    &[],
                    "Language",
                    ::rmi::__private::Execution::Blocking,
                ),
            ],
        );
    }
};
///Calls `Greeter` on another node.
///
/// Greets.
#[allow(dead_code, unreachable_pub)]
pub struct GreeterStub {
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
impl GreeterStub {
    /// The service under its own name, on `peer`.
    pub fn new(peer: impl ::core::convert::Into<::rmi::__private::Remote>) -> Self {
        Self::named(peer, "Greeter")
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
    pub fn local(service: impl ::rmi::__private::Service<Self>) -> Self {
        Self {
            remote: ::rmi::__private::local::<Self>(service),
        }
    }
    /// Says hello.
    pub fn hello(&self, name: &str) -> ::rmi::__private::Invocation<String> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(name);
        ::rmi::__private::Remote::call(&self.remote, "hello", __rmi_args)
    }
    ///Calls `twice`.
    pub fn twice(&self, name: &str) -> ::rmi::__private::Invocation<String> {
        let mut __rmi_args = ::rmi::__private::Args::new();
        __rmi_args.push(name);
        ::rmi::__private::Remote::call(&self.remote, "twice", __rmi_args)
    }
    ///Calls `language`.
    pub fn language(&self) -> ::rmi::__private::Invocation<Language> {
        let __rmi_args = ::rmi::__private::Args::new();
        ::rmi::__private::Remote::call(&self.remote, "language", __rmi_args)
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
    impl ::core::clone::Clone for GreeterStub {
        fn clone(&self) -> Self {
            Self {
                remote: ::core::clone::Clone::clone(&self.remote),
            }
        }
    }
    #[automatically_derived]
    impl ::core::fmt::Debug for GreeterStub {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            ::rmi::__private::fmt_stub(f, "GreeterStub", &self.remote)
        }
    }
};
