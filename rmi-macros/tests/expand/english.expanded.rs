impl Greeter for English {
    async fn hello(&self, name: &str) -> String {
        format!("hello {name}")
    }
    fn language(&self) -> Language {
        Language::English
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
    impl ::rmi::__private::Service<
        <dyn Greeter as ::rmi::__private::Interface<Self>>::Stub,
    > for English {
        const DESCRIPTOR: &'static ::rmi::__private::ServiceDescriptor = <dyn Greeter as ::rmi::__private::Interface<
            Self,
        >>::DESCRIPTOR;
        fn dispatch(
            self: ::rmi::__private::Arc<Self>,
            __rmi_call: &::rmi::__private::Call<'_>,
        ) -> ::core::result::Result<
            ::rmi::__private::Dispatch,
            ::rmi::__private::Rejection,
        > {
            <Self as Greeter>::__rmi_dispatch_needs_rmi_node_on_the_trait(
                self,
                __rmi_call,
            )
        }
    }
};
