//! Signatures of plugin files, as minisign makes them (<https://jedisct1.github.io/minisign/>): Ed25519 over the file, in `NAME.wasm.minisig`
//! beside it. Where keys are configured, a file that none of them has signed is not loaded.

use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use minisign::{PublicKey, SignatureBox};
use sluicegate_config::object::ours::MinisignKey;

use crate::regular;

/// The size limit of a signature, which has four short lines.
const MAX_BYTES: u64 = 8 << 10;

/// The path of a file's signature.
pub fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".minisig");
    name.into()
}

/// Checks bytes that were read from `file` against the keys. Returns the signer's comment on the file.
///
/// # Errors
/// The signature is missing, malformed, or not made by one of the keys.
pub fn check(file: &Path, bytes: &[u8], keys: &[MinisignKey]) -> Result<String, String> {
    let path = beside(file);
    let signature = match regular::read(&path, MAX_BYTES) {
        Ok((signature, _)) => Some(signature),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    check_text(&file.display().to_string(), &path.display().to_string(), signature.as_deref(), bytes, keys)
}

/// As [`check`], for what is in no file: `name` is the name of what is signed, `path` that of its signature.
///
/// # Errors
/// As those of [`check`].
pub fn check_text(name: &str, path: &str, signature: Option<&[u8]>, bytes: &[u8], keys: &[MinisignKey]) -> Result<String, String> {
    let named = |what: &dyn std::fmt::Display| format!("{path}: {what}");
    let Some(signature) = signature else { return Err(format!("{name} is not signed: there is no {path}")) };
    let text = std::str::from_utf8(signature).map_err(|_| named(&"not a signature: it is no text"))?;
    let signature = SignatureBox::from_string(text).map_err(|error| named(&format!("not a signature: {error}")))?;
    let mut known = Vec::new();
    for key in keys {
        known.push(PublicKey::from_base64(key.as_str()).map_err(|error| format!("key {}: {error}", key.as_str()))?);
    }
    let Some(key) = known.iter().find(|key| key.keynum() == signature.keynum()) else {
        return Err(named(&format!("signed with the key {}, which is none of the trusted ones", id(signature.keynum()))));
    };
    // minisign signs either the file's hash (BLAKE2b) or the file itself: both are accepted.
    minisign::verify(key, &signature, Cursor::new(bytes), true, false, true)
        .map_err(|_| named(&format!("it is not the signature of {name} with the key {}", id(key.keynum()))))?;
    signature.trusted_comment().map_err(|error| named(&error))
}

/// The number of a key, as minisign shows it.
pub fn id(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // This key was made by the C program; it is from the documentation of `minisign-verify`.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const HASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==";

    fn key(text: &str) -> MinisignKey {
        text.parse().unwrap()
    }

    #[test]
    fn a_signature_of_the_c_program_is_good_and_all_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test");
        let says = |bytes: &[u8], signature: &str, keys: &[MinisignKey]| {
            std::fs::write(beside(&file), signature).unwrap();
            check(&file, bytes, keys)
        };
        assert_eq!(says(b"test", HASHED, &[key(KEY)]).unwrap(), "timestamp:1633700835\tfile:test\tprehashed");
        assert!(says(b"tesT", HASHED, &[key(KEY)]).unwrap_err().contains("it is not the signature of"));
        let comment = HASHED.replace("file:test", "file:tesT");
        assert!(says(b"test", &comment, &[key(KEY)]).unwrap_err().contains("it is not the signature of"));
        let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let other = key(&other.pk.to_base64());
        let error = says(b"test", HASHED, std::slice::from_ref(&other)).unwrap_err();
        assert!(error.ends_with("signed with the key E7620F1842B4E81F, which is none of the trusted ones"), "{error}");
        assert!(says(b"test", HASHED, &[other, key(KEY)]).is_ok());
        for broken in ["", "untrusted comment: x\nRUQf6L", &HASHED[..150], &HASHED.replace("RUQf", "AAAA"), "\0"] {
            assert!(says(b"test", broken, &[key(KEY)]).is_err(), "{broken}");
        }
        std::fs::remove_file(beside(&file)).unwrap();
        assert!(check(&file, b"test", &[key(KEY)]).unwrap_err().contains("is not signed: there is no"));
    }
}
