//! The README shows what runs.

/// What stands between this line and the end of its block.
fn block<'a>(text: &'a str, fence: &str) -> &'a str {
    let found = text.split_once(fence);
    let (_, rest) = found.unwrap_or_else(|| panic!("the README has no block that begins with {fence:?}"));
    rest.split_once("\n```").map_or(rest, |(block, _)| block)
}

#[test]
fn its_first_program_is_the_example_hello() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/hello.rs");
    let (_module_doc, code) = example.split_once("\n\n").expect("the example begins with its module doc");
    assert_eq!(block(readme, "```rust\n"), code.trim_end());
}
