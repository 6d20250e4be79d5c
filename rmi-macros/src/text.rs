//! Types and default values as people write them.
//!
//! Tokens know no spaces. This puts them where rustfmt would, as far as one can tell without parsing; the text is for
//! people who read a description, nothing depends on it.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Prints the tokens.
pub(crate) fn text(tokens: TokenStream) -> String {
    let mut printer = Printer { out: String::new(), last: Last::Start };
    printer.stream(tokens);
    printer.out
}

#[derive(Clone, Copy, PartialEq)]
enum Last {
    Start,
    /// An identifier, a literal or a group: what an operator can follow.
    Operand,
    /// A word that no call or index follows, such as `dyn`.
    Keyword,
    /// What is glued to whatever follows.
    Glue,
    /// What a space follows.
    Spaced,
}

struct Printer {
    out: String,
    last: Last,
}

impl Printer {
    fn stream(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.group(group.delimiter(), group.stream()),
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    self.space_unless(self.last == Last::Glue || self.last == Last::Start);
                    self.out.push_str(&word);
                    let is_keyword = ["as", "const", "dyn", "for", "impl", "in", "move", "mut", "return", "where"]
                        .contains(&word.as_str());
                    self.last = if is_keyword { Last::Keyword } else { Last::Operand };
                }
                TokenTree::Literal(literal) => {
                    self.space_unless(self.last == Last::Glue || self.last == Last::Start);
                    self.out.push_str(&literal.to_string());
                    self.last = Last::Operand;
                }
                TokenTree::Punct(first) => {
                    let mut operator = String::from(first.as_char());
                    let mut spacing = first.spacing();
                    // In a type, `>` joins nothing (`Vec<Vec<u8>>`) and nothing joins a lifetime.
                    while spacing == Spacing::Joint && !operator.ends_with(['\'', '>']) {
                        let joins = |next: &TokenTree| matches!(next, TokenTree::Punct(p) if p.as_char() != '\'');
                        match tokens.next_if(joins) {
                            Some(TokenTree::Punct(next)) => {
                                operator.push(next.as_char());
                                spacing = next.spacing();
                            }
                            _ => break,
                        }
                    }
                    self.operator(&operator);
                }
            }
        }
    }

    fn operator(&mut self, operator: &str) {
        let after_operand = self.last == Last::Operand;
        let (space_before, last) = match operator {
            "," | ";" => (false, Last::Spaced),
            ":" => (false, Last::Spaced),
            "::" | "." | "<" | "!" | "::<" => (!after_operand && self.last != Last::Glue, Last::Glue),
            "?" => (false, if after_operand { Last::Operand } else { Last::Glue }),
            ">" => (false, Last::Operand),
            "'" => (self.last != Last::Glue, Last::Glue),
            ".." | "..=" => (false, Last::Glue),
            // Before its operand: `&x`, `-1`, `*p`.
            "&" | "-" | "*" | "&&" | "|" if !after_operand => (self.last != Last::Glue, Last::Glue),
            _ => (self.last != Last::Glue, Last::Spaced),
        };
        self.space_unless(!space_before || self.last == Last::Start);
        self.out.push_str(operator);
        self.last = last;
    }

    fn group(&mut self, delimiter: Delimiter, stream: TokenStream) {
        let (open, close) = match delimiter {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::Brace => ("{ ", " }"),
            // Invisible: from a `macro_rules!` variable.
            Delimiter::None => return self.stream(stream),
        };
        let is_glued = match self.last {
            Last::Start | Last::Glue => true,
            Last::Operand => delimiter != Delimiter::Brace,
            Last::Keyword | Last::Spaced => false,
        };
        self.space_unless(is_glued);
        if stream.is_empty() {
            self.out.push_str(open.trim());
            self.out.push_str(close.trim());
        } else {
            self.out.push_str(open);
            self.last = Last::Start;
            self.stream(stream);
            self.out.push_str(close);
        }
        self.last = Last::Operand;
    }

    fn space_unless(&mut self, is_glued: bool) {
        if !is_glued {
            self.out.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn types_and_values_read_as_they_are_written() {
        for source in [
            "i64",
            "Vec<u8>",
            "&str",
            "&[Vec<u8>]",
            "[u8; 4]",
            "()",
            "(i64, String)",
            "Result<Vec<Option<i64>>, std::io::Error>",
            "::std::vec::Vec<u8>",
            "HashMap<String, Vec<(u8, u8)>>",
            "Box<dyn Fn(u8) -> u8 + Send>",
            "Cow<'static, str>",
            "[u8; <Calculator>::SIZE + 1]",
            "fn(u8) -> u8",
            "-1",
            "1 + 2",
            "\"x\"",
            "Vec::new()",
            "vec![1, 2]",
            "Duration::from_secs(5)",
            "Point { x: 1, y: -2 }",
            "String::from(\"a\").len()",
            "f(&x, *y)",
            "Vec::<u8>::with_capacity(3)",
        ] {
            let tokens = syn::parse_str(source).unwrap();
            assert_eq!(super::text(tokens), source);
        }
    }
}
