//! Tokens by which people and programs log in. Of a token only its digest is kept, and it is never logged.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

use crate::access::Role;

/// The least length of a token. `openssl rand -base64 24` makes one of 32 characters, of 192 random bits.
const LEAST: usize = 32;
/// The largest length of a token.
const MOST: usize = 1_024;
/// How many tokens there may be.
const MOST_TOKENS: usize = 1_000;

/// The tokens of a file: lines of `ROLE:TOKEN` or `ROLE:NAME:TOKEN`, where the role is `viewer` or `operator`. Lines that begin with `#` are comments.
#[derive(Default)]
pub(crate) struct Tokens(Vec<Token>);

struct Token {
    role: Role,
    name: Arc<str>,
    digest: [u8; SHA256_OUTPUT_LEN],
}

impl Tokens {
    /// Reads the text of a file. The error names the line, and shows nothing of it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<Token> = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let token = Token::parse(line).map_err(|error| format!("line {}: {error}", i + 1))?;
            if tokens.iter().any(|other| other.digest == token.digest) {
                return Err(format!("line {}: another line has the same token", i + 1));
            }
            tokens.push(token);
            if tokens.len() > MOST_TOKENS {
                return Err(format!("it has more than {MOST_TOKENS} tokens"));
            }
        }
        if tokens.is_empty() {
            return Err("it has no token".to_owned());
        }
        Ok(Self(tokens))
    }

    /// Whose token this is. However much of it is right, the answer takes as long: all digests are compared, and each as a whole.
    pub(crate) fn find(&self, token: &[u8]) -> Option<(Role, Arc<str>)> {
        if token.len() > MOST {
            return None;
        }
        let given = digest(&SHA256, token);
        let mut found = None;
        for token in &self.0 {
            if verify_slices_are_equal(&token.digest, given.as_ref()).is_ok() {
                found = Some((token.role, token.name.clone()));
            }
        }
        found
    }
}

impl Token {
    fn parse(line: &str) -> Result<Self, String> {
        let Some((role, rest)) = line.split_once(':') else {
            return Err("`ROLE:TOKEN` or `ROLE:NAME:TOKEN` is wanted".to_owned());
        };
        let role = match role.trim() {
            "viewer" => Role::Viewer,
            "operator" => Role::Operator,
            _ => return Err("the role before the first colon is neither `viewer` nor `operator`".to_owned()),
        };
        // No token has a colon (RFC 6750 §2.1).
        let (name, token) = rest.rsplit_once(':').map_or((role.name(), rest), |(name, token)| (name.trim(), token));
        let token = token.trim();
        if name.is_empty() || name.len() > 256 {
            return Err("a name has 1 to 256 bytes".to_owned());
        }
        if !(LEAST..=MOST).contains(&token.len()) {
            return Err(format!(
                "a token has {LEAST} to {MOST} characters, and this one has {}: `openssl rand -base64 24` makes one",
                token.len()
            ));
        }
        if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)) {
            return Err("a token has letters, digits and `-._~+/=` (RFC 6750 §2.1)".to_owned());
        }
        let mut own = [0; SHA256_OUTPUT_LEN];
        own.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Ok(Self { role, name: name.into(), digest: own })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb=";

    #[test]
    fn a_token_gives_its_line_s_role_and_name() {
        let tokens = Tokens::parse(&format!("# people\n\nviewer:{A}\n operator : alice:{B} \n")).expect("read");
        assert_eq!(tokens.find(A.as_bytes()), Some((Role::Viewer, "viewer".into())));
        assert_eq!(tokens.find(B.as_bytes()), Some((Role::Operator, "alice".into())));
        for other in ["", "a", &A[1..], &format!("{A}a"), &A.to_uppercase(), &"a".repeat(2_000)] {
            assert_eq!(tokens.find(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_faulty_line_is_named_and_not_shown() {
        for (line, says) in [
            (A, "`ROLE:TOKEN`"),
            (&format!("root:{A}") as &str, "neither `viewer` nor `operator`"),
            ("viewer:short-secret", "this one has 12"),
            (&format!("viewer:{A}{}", "!"), "RFC 6750"),
            (&format!("viewer::{A}"), "a name has"),
            (&format!("viewer:{A}\noperator:{A}"), "line 3: another line has the same token"),
        ] {
            let error = Tokens::parse(&format!("# tokens\n{line}")).err().expect(line);
            assert!(error.starts_with("line ") && error.contains(says), "{line}: {error}");
            assert!(!error.contains(A) && !error.contains("short-secret"), "{error}");
        }
        assert_eq!(Tokens::parse("# none\n").err().as_deref(), Some("it has no token"));
    }
}
