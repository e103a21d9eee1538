//! The part of Rust's lexer that is needed to find paths.

/// A name, or the sign between names, with its line.
#[derive(Debug, PartialEq)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

/// Names, `::`, and single signs; comments, strings, characters and lifetimes are left out.
pub fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80;
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < bytes.len() {
        let start = i;
        if source[i..].starts_with("//") {
            i += source[i..].find('\n').unwrap_or(source.len() - i);
        } else if source[i..].starts_with("/*") {
            let mut depth = 0;
            while i < bytes.len() {
                match (at(i), at(i + 1)) {
                    (b'/', b'*') => (depth, i) = (depth + 1, i + 2),
                    (b'*', b'/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(hashes) = raw_string(&source[i..]) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = i + source[i..].find('"').expect("a raw string has a quote") + 1;
            i = source[body..]
                .find(&end)
                .map_or(source.len(), |n| body + n + end.len());
        } else if at(i) == b'"' {
            i += 1;
            while i < bytes.len() && at(i) != b'"' {
                i += if at(i) == b'\\' { 2 } else { 1 };
            }
            i += 1;
        } else if at(i) == b'\'' {
            // A character literal closes after one character or an escape; anything else is a lifetime.
            let rest = &source[i + 1..];
            let first = rest.chars().next().map_or(1, char::len_utf8);
            if rest.starts_with('\\') {
                i += 3 + rest
                    .get(2..)
                    .and_then(|r| r.find('\''))
                    .map_or(0, |n| n + 1);
            } else if rest.as_bytes().get(first) == Some(&b'\'') {
                i += first + 2;
            } else {
                i += 1;
            }
        } else if word(at(i)) {
            while word(at(i)) {
                i += 1;
            }
            found.push(Token {
                line,
                text: source[start..i].to_string(),
            });
        } else if source[i..].starts_with("::") {
            i += 2;
            found.push(Token {
                line,
                text: "::".to_string(),
            });
        } else {
            if !at(i).is_ascii_whitespace() {
                found.push(Token {
                    line,
                    text: char::from(at(i)).to_string(),
                });
            }
            i += 1;
        }
        line += bytes[start..i.min(bytes.len())]
            .iter()
            .filter(|&&b| b == b'\n')
            .count();
    }
    found
}

/// The number of hashes if `text` starts with a raw string.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text
        .strip_prefix("br")
        .or_else(|| text.strip_prefix("cr"))
        .or_else(|| text.strip_prefix('r'))?;
    let hashes = rest.bytes().take_while(|&b| b == b'#').count();
    (rest.as_bytes().get(hashes) == Some(&b'"')).then_some(hashes)
}
