//! One test for each rule of `validate`, without a compiler: a block in, the messages or the model out.

use quote::quote;
use syn::parse_quote;

use crate::attrs::BlockOptions;
use crate::errors::Errors;
use crate::model::{Execution, Interface, ModelKind, ParamKind, ParamType, Source};
use crate::{parse, validate};
use proc_macro2::TokenStream;

/// The messages about `impl Service` with these methods, each without its help.
fn messages(methods: TokenStream) -> Vec<String> {
    all_messages(quote!(), quote!(impl Service { #methods }))
}

fn all_messages(options: TokenStream, item: TokenStream) -> Vec<String> {
    let mut errors = Errors::default();
    let options = BlockOptions::parse(options, &mut errors);
    if let Some(block) = parse::block(item, &mut errors) {
        validate::block(&block, options, quote!(::rmi), &mut errors);
    }
    errors.messages().iter().map(|message| message.lines().next().unwrap_or_default().to_owned()).collect()
}

fn model(options: TokenStream, item: TokenStream) -> Interface {
    let mut errors = Errors::default();
    let options = BlockOptions::parse(options, &mut errors);
    let block = parse::block(item, &mut errors).expect("a block");
    let model = validate::block(&block, options, quote!(::rmi), &mut errors);
    assert_eq!(errors.messages(), [""; 0]);
    match model.kind {
        ModelKind::Interface(interface) => interface,
        ModelKind::TraitImpl(_) => panic!("the implementation of a trait makes no interface"),
    }
}

#[track_caller]
fn one(methods: TokenStream, message: &str) {
    assert_eq!(messages(methods), [message]);
}

#[test]
fn it_goes_on_blocks_and_traits_only() {
    let message = "`#[rmi_node]` goes on an `impl` block or a trait";
    for item in [
        quote!(
            struct A;
        ),
        quote!(
            fn a() {}
        ),
        quote!(
            pub mod a {}
        ),
        quote!(
            enum A {}
        ),
        quote!(
            const A: u8 = { 1 };
        ),
    ] {
        assert_eq!(all_messages(quote!(), item), [message]);
    }
    for item in [
        quote!(impl A {}),
        quote!(
            pub(crate) trait A {}
        ),
        quote!(
            impl<T> a::A<T> {}
        ),
        quote!(impl A for B {}),
    ] {
        assert_eq!(all_messages(quote!(), item), [""; 0]);
    }
    let message = "`#[rmi_node]` needs a type with a name of its own";
    assert_eq!(
        all_messages(
            quote!(),
            quote!(
                impl (u8, u8) {}
            )
        ),
        [message]
    );
    assert_eq!(
        all_messages(
            quote!(),
            quote!(
                unsafe trait A {}
            )
        ),
        ["an interface cannot be an unsafe trait"]
    );
}

#[test]
fn receivers_are_shared_references() {
    for method in [
        quote!(
            fn m(&mut self) {}
        ),
        quote!(
            fn m(self) {}
        ),
        quote!(
            fn m(mut self) {}
        ),
        quote!(
            fn m(self: Arc<Self>) {}
        ),
    ] {
        one(method, "method `m` must take `&self`");
    }
    assert_eq!(
        messages(quote!(
            fn m(&'static self) {}
        )),
        ["method `m` must not be generic"]
    );
    assert_eq!(
        messages(quote!(
            fn m(&'_ self) {}
            #[rmi(skip)]
            fn n(&mut self) {}
            fn o() {}
        )),
        [""; 0]
    );
}

#[test]
fn functions_without_self_have_no_options() {
    let message = "method `m` has no `&self`, so it cannot be remote";
    one(
        quote!(
            #[rmi(idempotent)]
            fn m() {}
        ),
        message,
    );
    one(
        quote!(
            fn m(#[rmi(default)] a: u8) {}
        ),
        message,
    );
}

#[test]
fn parameters_have_names() {
    let message = "parameter needs a name: callers may pass it by keyword";
    assert_eq!(
        messages(quote!(
            fn m(&self, (a, b): (u8, u8), _: u8, ref c: u8, d @ _: u8, mut e: u8) {}
        )),
        [message; 4]
    );
}

#[test]
fn methods_are_not_generic() {
    let message = "method `m` must not be generic";
    one(
        quote!(
            fn m<T>(&self, a: T) {}
        ),
        message,
    );
    one(
        quote!(
            fn m<const N: usize>(&self) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self, a: impl Copy) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self, a: Vec<(u8, impl Copy)>) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self)
            where
                T: Copy,
            {
            }
        ),
        message,
    );
}

#[test]
fn qualifiers_are_refused() {
    one(
        quote!(
            unsafe fn m(&self) {}
        ),
        "method `m` must not be `unsafe`: callers are on other nodes",
    );
    one(
        quote!(
            extern "C" fn m(&self) {}
        ),
        "method `m` must not be `extern`",
    );
    one(quote!(default fn m(&self) {}), "method `m` must not be `default`");
}

#[test]
fn arguments_are_owned_or_lent_whole() {
    one(
        quote!(
            fn m(&self, a: &mut u8) {}
        ),
        "argument `a` is sent by value",
    );
    one(
        quote!(
            fn m(&self, a: &'static str) {}
        ),
        "argument `a` is lent for the length of the call",
    );
    one(
        quote!(
            fn m(&self, a: Option<&str>) {}
        ),
        "argument `a` borrows inside of its type",
    );
    one(
        quote!(
            fn m(&self, a: &[&str]) {}
        ),
        "argument `a` borrows inside of its type",
    );
    one(
        quote!(
            fn m(&self, a: Box<dyn Any>) {}
        ),
        "argument `a` has a `dyn` type, which cannot travel",
    );
    assert_eq!(
        messages(quote!(
            fn m(&self, a: &'_ str, b: Cow<'static, str>, c: &[u8]) {}
        )),
        [""; 0]
    );
}

#[test]
fn results_are_owned() {
    one(
        quote!(
            fn m(&self) -> &str {}
        ),
        "method `m` returns a reference",
    );
    one(
        quote!(
            fn m(&self) -> Result<&str, E> {}
        ),
        "method `m` returns a reference",
    );
    one(
        quote!(
            fn m(&self) -> impl Future<Output = u8> {}
        ),
        "method `m` must return a type with a name",
    );
    one(
        quote!(
            fn m(&self) -> impl Stream<Item = u8> {}
        ),
        "method `m` returns a stream",
    );
    one(
        quote!(
            fn m(&self) -> Box<dyn Any> {}
        ),
        "method `m` returns a `dyn` type, which cannot travel",
    );
}

#[test]
fn parameters_stand_in_pythons_order() {
    let message = "parameter `b` without a default follows `a`, which has one";
    one(
        quote!(
            fn m(&self, #[rmi(default)] a: u8, b: u8) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self, #[rmi(positional, default)] a: u8, b: u8) {}
        ),
        message,
    );
    let message = "parameter `b` follows `a`, which is given by name only";
    one(
        quote!(
            fn m(&self, #[rmi(keyword)] a: u8, b: u8) {}
        ),
        message,
    );
    let message = "parameter `b` is given by position only, but `a` before it can be given by name";
    one(
        quote!(
            fn m(&self, a: u8, #[rmi(positional)] b: u8) {}
        ),
        message,
    );
    let fine = quote!(
        fn m(
            &self,
            #[rmi(positional)] a: u8,
            #[rmi(positional, default)] b: u8,
            c: &Peer,
            #[rmi(default = 1)] d: u8,
            #[rmi(keyword, default)] e: u8,
            #[rmi(keyword)] f: u8,
            g: CallContext,
        ) {
        }
    );
    assert_eq!(messages(fine), [""; 0]);
    let message = "parameter `a` cannot be both `keyword`, by name only, and `positional`";
    one(
        quote!(
            fn m(&self, #[rmi(keyword, positional)] a: u8) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self, a: u8, #[rmi(name = "a")] b: u8) {}
        ),
        "parameter name `a` is already used by `a`",
    );
}

#[test]
fn injected_parameters_have_no_other_options() {
    let message = "`default` means nothing here: parameter `a` is given by the node, not sent";
    one(
        quote!(
            fn m(&self, #[rmi(default)] a: &Peer) {}
        ),
        message,
    );
    one(
        quote!(
            fn m(&self, #[rmi(context, default)] a: Own) {}
        ),
        message,
    );
    let message = "parameter `a` is either given by the node, `context`, or sent, `arg`";
    one(
        quote!(
            fn m(&self, #[rmi(context, arg)] a: u8) {}
        ),
        message,
    );
    assert_eq!(
        messages(quote!(
            fn m(&self, #[rmi(arg)] a: Peer, b: Peer<u8>) {}
        )),
        [""; 0]
    );
}

#[test]
fn options_are_known_and_given_once() {
    one(
        quote!(
            #[rmi(nmae = "x")]
            fn m(&self) {}
        ),
        "unknown `rmi` option `nmae`; known here: `name`, `skip`, `direct`, \
        `cpu`, `spawn`, `oneway`, `idempotent`, `no_cancel`, `timeout`, `allow`, `fallible`, `infallible`",
    );
    one(
        quote!(
            #[rmi(spawn)]
            #[rmi(spawn)]
            async fn m(&self) {}
        ),
        "`spawn` is given twice",
    );
    one(
        quote!(
            #[rmi(spawn = true)]
            async fn m(&self) {}
        ),
        "`spawn` takes no value",
    );
    one(
        quote!(
            #[rmi(name)]
            fn m(&self) {}
        ),
        "`name` needs a value",
    );
    one(
        quote!(
            #[rmi(name = )]
            fn m(&self) {}
        ),
        "expected a value for `name`",
    );
    one(
        quote!(
            #[rmi(name = x)]
            fn m(&self) {}
        ),
        "expected a string",
    );
    one(
        quote!(
            #[rmi(name("x"))]
            fn m(&self) {}
        ),
        "expected `,` or `=`",
    );
    one(
        quote!(
            #[rmi("x")]
            fn m(&self) {}
        ),
        "expected an option like `name = \"..\"`",
    );
    one(
        quote!(
            #[rmi]
            fn m(&self) {}
        ),
        "expected options",
    );
    one(
        quote!(
            #[rmi(timeout = "5")]
            fn m(&self) {}
        ),
        "expected a duration like \"250ms\" or \"5s\"",
    );
    let message = "expected the stub's name, or `false` for no stub";
    for stub in [quote!("A"), quote!(true), quote!(a::B)] {
        assert_eq!(all_messages(quote!(stub = #stub), quote!(impl A {})), [message]);
    }
    assert_eq!(all_messages(quote!(crate = "a"), quote!(impl A {})), ["expected a path"]);
}

#[test]
fn options_fit_the_method() {
    one(
        quote!(
            #[rmi(direct)]
            async fn m(&self) {}
        ),
        "`direct` applies to plain `fn` only",
    );
    one(
        quote!(
            #[rmi(cpu)]
            async fn m(&self) {}
        ),
        "`cpu` applies to plain `fn` only",
    );
    one(
        quote!(
            #[rmi(spawn)]
            fn m(&self) {}
        ),
        "`spawn` applies to `async fn` only",
    );
    let message = "`cpu` and `direct` exclude each other: a method runs in one place";
    one(
        quote!(
            #[rmi(direct, cpu)]
            fn m(&self) {}
        ),
        message,
    );
    one(
        quote!(
            #[rmi(oneway)]
            fn m(&self) -> u8 {}
        ),
        "a `oneway` method returns nothing",
    );
    one(
        quote!(
            #[rmi(oneway)]
            fn m(&self) -> Result<(), E> {}
        ),
        "a `oneway` method returns nothing",
    );
    assert_eq!(
        messages(quote!(
            #[rmi(oneway)]
            fn m(&self) -> () {}
        )),
        [""; 0]
    );
    let message = "`name` means nothing beside `skip`: method `m` is not remote";
    one(
        quote!(
            #[rmi(skip, name = "n")]
            fn m(&self) {}
        ),
        message,
    );
    let message = "method `m` is skipped, so its parameters have no options";
    one(
        quote!(
            #[rmi(skip)]
            fn m(&self, #[rmi(default)] a: u8) {}
        ),
        message,
    );
    let message = "method `m` cannot be both `fallible` and `infallible`";
    one(
        quote!(
            #[rmi(fallible, infallible)]
            fn m(&self) -> u8 {}
        ),
        message,
    );
    one(
        quote!(
            #[rmi(fallible)]
            fn m(&self) {}
        ),
        "method `m` returns nothing, so it is not `fallible`",
    );
}

#[test]
fn names_are_names() {
    for (name, ok) in
        [("a", true), ("a-b", true), ("ä1", true), ("_a", true), ("", false), ("1", false), ("a b", false)]
    {
        assert_eq!(
            messages(quote!(
                #[rmi(name = #name)]
                fn m(&self) {}
            ))
            .is_empty(),
            ok,
            "{name}"
        );
        assert_eq!(
            messages(quote!(
                fn m(&self, #[rmi(name = #name)] a: u8) {}
            ))
            .is_empty(),
            ok,
            "{name}"
        );
        assert_eq!(all_messages(quote!(name = #name), quote!(impl A {})).is_empty(), ok, "{name}");
    }
    let long = "x".repeat(101);
    one(
        quote!(
            #[rmi(name = #long)]
            fn m(&self) {}
        ),
        &format!("`{long}` is no name for a method"),
    );
    // A service's name is what stands before the last dot.
    assert_eq!(all_messages(quote!(name = "a.b"), quote!(impl A {})), [""; 0]);
    one(
        quote!(
            #[rmi(name = "a.b")]
            fn m(&self) {}
        ),
        "`a.b` is no name for a method",
    );
    let message = "the name `rmi.x` is reserved: names that begin with `rmi` are the node's own";
    assert_eq!(all_messages(quote!(name = "rmi.x"), quote!(impl A {})), [message]);
    one(
        quote!(
            fn _m(&self) {}
        ),
        "method `_m` begins with `_`",
    );
    assert_eq!(
        messages(quote!(
            #[rmi(skip)]
            fn _m(&self) {}
            #[rmi(name = "n")]
            fn _n(&self) {}
        )),
        [""; 0]
    );
}

#[test]
fn remote_names_are_unique() {
    let messages_of = messages(quote!(
        fn add(&self) {}
        #[rmi(name = "add")]
        fn plus(&self) {}
    ));
    assert_eq!(messages_of, ["remote name `add` is already used by `add`", "remote name `add` is first used here"]);
    let conditional = quote!(
        #[cfg(a)]
        fn add(&self) {}
        #[cfg(not(a))]
        #[rmi(name = "add")]
        fn plus(&self) {}
    );
    assert_eq!(messages(conditional), [""; 0]);
    one(
        quote!(
            fn new(&self) {}
        ),
        "method `new` has the name of a function that every stub has",
    );
    assert_eq!(all_messages(quote!(stub = false), quote!(impl A { fn new(&self) {} })), [""; 0]);
}

#[test]
fn what_an_interface_cannot_have() {
    let messages = |items: TokenStream| all_messages(quote!(), quote!(trait Greeter { #items }));
    assert_eq!(
        messages(quote!(
            const A: u8;
        )),
        ["an interface cannot have associated constants"]
    );
    assert_eq!(
        messages(quote!(
            type A: Copy;
        )),
        ["an interface cannot have associated types"]
    );
    let message = "method `m` of an interface must not name `Self`: callers of `Greeter` do not know the type";
    assert_eq!(
        messages(quote!(
            fn m(&self, a: Vec<Self>);
        )),
        [message]
    );
    assert_eq!(
        messages(quote!(
            fn m(&self) -> Self;
        )),
        [message]
    );
    assert_eq!(
        messages(quote!(
            fn m() -> Self;
            #[rmi(skip)]
            fn n(&self, a: &Self);
        )),
        [""; 0]
    );
}

#[test]
fn an_implementation_has_no_options() {
    let item = quote!(impl Greeter for English { #[rmi(skip)] fn m(&self, #[rmi(default)] a: u8) {} });
    assert_eq!(
        all_messages(quote!(name = "x"), item.clone()),
        ["`name` belongs to the interface", "options belong to the interface"]
    );
    let item = quote!(impl Greeter for English { const A: u8 = 1; fn m(&mut self, _: &'static str) {} });
    assert_eq!(all_messages(quote!(crate = a), item), [""; 0]);
}

#[test]
fn blocks_own_what_they_serve_and_hide_nothing() {
    let message = "a service lives as long as its node, so it cannot borrow";
    assert_eq!(
        all_messages(
            quote!(),
            quote!(
                impl<'a> A<'a> {}
            )
        ),
        [message]
    );
    one(quote!(methods!(); fn m(&self) {}), "a macro call in this block would hide its methods");
    one(
        quote!(
            #[a]
            b::methods! { x }
        ),
        "a macro call in this block would hide its methods",
    );
    let message = "options of the block go in the first attribute";
    assert_eq!(
        all_messages(
            quote!(),
            quote!(
                #[rmi(name = "x")]
                impl A {}
            )
        ),
        [message]
    );
}

#[test]
fn what_cannot_be_read_does_not_hide_the_rest() {
    let messages = messages(quote!(fn (&self) {} async fn m(&mut self) {}));
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(messages[1], "method `m` must take `&self`");
}

#[test]
fn the_item_survives_every_mistake() {
    for item in [
        quote!(
            struct A {
                a: u8,
            }
        ),
        quote!(impl A { fn m(&mut self, (a, b): (u8, u8)) { let x = ; } const B: u8 = { 1 }; methods!(); }),
        quote!(trait A { type B; async fn m(&self, c: &mut u8); fn (x); }),
    ] {
        let expanded = crate::expand(quote!(unknown), item.clone(), quote!(::rmi)).to_string();
        assert!(expanded.contains("compile_error"));
        let words = ["struct A", "fn m (", "let x =", "const B : u8 = { 1 }", "methods !", "type B", "fn (x)"];
        for word in words.into_iter().filter(|word| item.to_string().contains(word)) {
            assert!(expanded.contains(word), "{word} in {expanded}");
        }
    }
}

#[test]
fn the_model_says_what_was_written() {
    let interface = model(
        quote!(name = "calc", stub = Calc, serial, allow = "r"),
        quote! {
            /// Counts.
            ///
            ///   Indented.
            impl crate::Calculator<u8> {
                pub(crate) async fn a(&self, r#type: &[u8], #[rmi(keyword)] b: u8, c: &net::Peer) -> io::Result<()> {}
                #[rmi(cpu, name = "B")]
                pub fn b(&self) -> Outcome {}
                #[rmi(direct)]
                fn c(&self) -> Vec<u8> {}
                fn d(&self) -> MyResult<u8> {}
                #[rmi(infallible)]
                fn e(&self) -> MyResult<u8> {}
                #[rmi(fallible)]
                fn f(&self) -> Outcome {}
                #[rmi(spawn)]
                async fn g(&self) {}
            }
        },
    );
    assert_eq!((&*interface.name, interface.copied.doc.as_str()), ("calc", "Counts.\n\n  Indented."));
    assert_eq!(interface.stub.unwrap(), "Calc");
    assert!(interface.serial && interface.allow.as_deref() == Some("r"));
    assert!(matches!(interface.stub_vis, syn::Visibility::Public(_)));
    let methods = &interface.methods;
    let executions: Vec<_> = methods.iter().map(|method| method.execution).collect();
    use Execution::{Async, Blocking, Compute, Direct, Spawned};
    assert_eq!(executions, [Async, Compute, Direct, Blocking, Blocking, Blocking, Spawned]);
    let returns: Vec<_> = methods.iter().map(|m| (m.returns.is_result, m.returns.may_hide_result)).collect();
    let (result, plain, unsure) = ((true, false), (false, false), (false, true));
    assert_eq!(returns, [result, unsure, plain, result, plain, result, plain]);
    assert_eq!(methods[1].name, "B");
    let params = &methods[0].params;
    assert!(matches!(&params[0].source, Source::Argument { name, kind: ParamKind::Ordinary, .. } if name == "type"));
    assert!(matches!(&params[0].ty, ParamType::Lent(_)));
    assert!(matches!(&params[1].source, Source::Argument { kind: ParamKind::Keyword, default: None, .. }));
    assert!(matches!(&params[2].source, Source::Injected));
}

#[test]
fn the_stub_has_the_name_and_the_visibility_of_the_interface() {
    let interface = model(
        quote!(),
        quote!(
            pub(crate) trait r#Greeter {
                fn m(&self);
            }
        ),
    );
    assert_eq!((interface.name.as_str(), interface.stub.unwrap().to_string().as_str()), ("Greeter", "GreeterStub"));
    assert!(matches!(interface.stub_vis, syn::Visibility::Restricted(_)));
    let interface = model(quote!(stub = false), quote!(impl a::B<u8> { fn m(&self) {} }));
    assert!(interface.stub.is_none() && interface.name == "B");
    assert!(matches!(interface.stub_vis, syn::Visibility::Inherited));
}

#[test]
fn self_is_replaced_outside_of_the_block() {
    let ty: syn::Type = parse_quote!(a::B<u8>);
    let replaced = validate::without_self(quote!(Vec<(Self, [u8; Self::N])>), &ty);
    assert_eq!(crate::text::text(replaced), "Vec<(a::B<u8>, [u8; <a::B<u8>>::N])>");
}

/// The expansions in `tests/expand` are there to be read. `OVERWRITE=1 cargo test -p rmi-macros` writes them anew.
#[test]
fn expansions_are_as_in_the_folder() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expand");
    for name in ["calculator", "greeter", "english"] {
        let source = std::fs::read_to_string(folder.join(format!("{name}.rs"))).expect("the source");
        let mut source: Vec<_> = source.parse::<TokenStream>().expect("tokens").into_iter().collect();
        let at = source.iter().position(|token| token.to_string() == "[rmi_node]").expect("the attribute");
        source.drain(at - 1..=at);
        let expanded = crate::expand(TokenStream::new(), source.into_iter().collect(), quote!(::rmi));
        let expanded = prettyplease::unparse(&syn::parse2(expanded).expect("items"));
        let path = folder.join(format!("{name}.expanded.rs"));
        if std::env::var_os("OVERWRITE").is_some() {
            std::fs::write(&path, &expanded).expect("the folder is there");
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), expanded, "{}", path.display());
    }
}
