//! Small readers of Rust tokens.
//!
//! In: a slice of tokens. Out: what its start means, and what follows.

use proc_macro2::{Delimiter, TokenTree};

/// Whether `tokens` start with `#[cfg(test)]`.
pub fn is_cfg_test(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else {
        return false;
    };
    hash.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// Whether `tokens` start with `<`: `use<'a>` in a type is no import.
pub fn is_angle(tokens: &[TokenTree]) -> bool {
    matches!(tokens.first(), Some(TokenTree::Punct(punct)) if punct.as_char() == '<')
}

/// Whether `token` is `{ … }`.
pub fn is_block(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace)
}

/// What follows the item at the start of `tokens`: all after its `{ … }` or its `;`.
pub fn skip_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens.iter().position(|token| match token {
        TokenTree::Group(_) => is_block(Some(token)),
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    });
    end.map_or(&[], |end| &tokens[end + 1..])
}

/// The path at the start of `tokens`: its segments, the line of the first one, and what follows.
/// A `::` at either end is taken as well, so `std::{…}` gives `["std"]` and the group.
pub fn segments(tokens: &[TokenTree]) -> (Vec<String>, usize, &[TokenTree]) {
    let mut segments = Vec::new();
    let mut rest = skip_colons(tokens);
    let line = rest.first().map_or(0, |token| token.span().start().line);
    while let [TokenTree::Ident(word), after @ ..] = rest {
        segments.push(word.to_string());
        rest = skip_colons(after);
        if rest.len() == after.len() {
            break;
        }
    }
    (segments, line, rest)
}

fn skip_colons(tokens: &[TokenTree]) -> &[TokenTree] {
    match tokens {
        [TokenTree::Punct(a), TokenTree::Punct(b), rest @ ..]
            if a.as_char() == ':' && b.as_char() == ':' =>
        {
            rest
        }
        _ => tokens,
    }
}
