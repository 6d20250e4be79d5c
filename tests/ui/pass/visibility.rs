//! The stub is as visible as its most visible method.
#![deny(warnings)]

mod inner {
    use rmi::rmi_node;

    pub(crate) struct Service;

    #[rmi_node]
    impl Service {
        fn private(&self) {}

        pub(super) fn of_the_parent(&self) {}

        pub(crate) fn of_the_crate(&self) {}
    }

    struct Private;

    #[rmi_node]
    impl Private {
        pub(in crate::inner) fn here(&self) {}
    }

    pub(crate) fn call() {
        let _ = ServiceStub::local(Service).private();
        let _ = PrivateStub::local(Private).here();
    }
}

fn main() {
    inner::call();
    let stub: inner::ServiceStub = inner::ServiceStub::local(inner::Service);
    let _ = (stub.of_the_parent(), stub.of_the_crate());
}
