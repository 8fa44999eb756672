//! `sluicegate plugin keygen`, `sign` and `verify`: keys and signatures as minisign has them, so that its own program reads and makes them, too.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use minisign::{KeyPair, PublicKey, PublicKeyBox, SecretKey, SecretKeyBox};
use sluicegate_config::object::ours::MinisignKey;
use sluicegate_control::plugins::signature;

/// Where the password of a secret key comes from.
#[derive(Debug, clap::Args)]
pub(super) struct Password {
    /// Read the secret key's password from a file's first line, instead of asking for it
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    /// Reads the password. None: it is asked for on the terminal.
    fn read(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Some(text.lines().next().unwrap_or_default().to_owned()))
    }
}

pub(super) fn keygen(name: &Path, without_password: bool, password: &Password) -> Result<String, String> {
    // The ending is appended, as `release-1.2` has none to be replaced.
    let with = |ending: &str| {
        let mut path = name.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    let (secret, public) = (with(".key"), with(".pub"));
    // It is checked before a password is asked for. A file that comes between is found when writing.
    if let Some(there) = [&secret, &public].into_iter().find(|file| file.exists()) {
        return Err(format!("{} exists already", there.display()));
    }
    let made = if without_password {
        KeyPair::generate_unencrypted_keypair()
    } else {
        let given = password.read()?;
        KeyPair::generate_encrypted_keypair(given)
    };
    let made = made.map_err(|e| e.to_string())?;
    let text = |e: minisign::PError| e.to_string();
    write(&secret, &made.sk.to_box(None).map_err(text)?.into_string(), File::options().create_new(true).mode(0o600))?;
    write(&public, &made.pk.to_box().map_err(text)?.into_string(), File::options().create_new(true))?;
    Ok(format!(
        "{}: keep it secret\n{}: trust it with `plugins: {{trustedKeys: [{}]}}` in the SluicegateConfiguration",
        secret.display(),
        public.display(),
        made.pk.to_base64()
    ))
}

pub(super) fn sign(key: &Path, file: &Path, comment: Option<&str>, password: &Password) -> Result<String, String> {
    let bytes = read(file)?;
    let key = secret_key(key, password)?;
    let name = file.file_name().map_or_else(|| "plugin".into(), |name| name.to_string_lossy());
    let seconds = sluicegate_model::unix::seconds();
    // By default it is what minisign writes.
    let trusted = comment.map_or_else(|| format!("timestamp:{seconds}\tfile:{name}\thashed"), str::to_owned);
    let made = minisign::sign(None, &key, Cursor::new(&bytes), Some(&trusted), Some("signature of a Sluicegate plugin"));
    let made = made.map_err(|e| e.to_string())?;
    let path = signature::beside(file);
    // It is renamed into place, so that a gateway never sees half of it.
    let partial = path.with_extension("minisig.partial");
    write(&partial, &made.into_string(), File::options().create(true).truncate(true))?;
    std::fs::rename(&partial, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(format!("{}: {trusted}", path.display()))
}

pub(super) fn verify(key: &str, file: &Path) -> Result<String, String> {
    let key = public_key(key)?;
    let known = key.to_base64().parse::<MinisignKey>()?;
    let said = signature::check(file, &read(file)?, &[known])?;
    Ok(format!("{}: signed with the key {}, {said}", file.display(), signature::id(key.keynum())))
}

/// Reads a public key in base64, or from a file that has it.
fn public_key(text: &str) -> Result<PublicKey, String> {
    if text.parse::<MinisignKey>().is_ok() {
        return PublicKey::from_base64(text).map_err(|e| e.to_string());
    }
    let content = std::fs::read_to_string(text).map_err(|e| format!("{text}: {e}; a public key, or a file with one, is wanted"))?;
    PublicKeyBox::from_string(&content).and_then(PublicKeyBox::into_public_key).map_err(|e| format!("{text}: {e}"))
}

fn secret_key(file: &Path, password: &Password) -> Result<SecretKey, String> {
    let wrong = |e: minisign::PError| format!("{}: {e}", file.display());
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let given = password.read()?;
    let boxed = || SecretKeyBox::from_string(&text).map_err(wrong);
    match boxed()?.into_unencrypted_secret_key() {
        Ok(key) => Ok(key),
        Err(_) => boxed()?.into_secret_key(given).map_err(wrong),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
}

fn write(file: &Path, text: &str, how: &mut OpenOptions) -> Result<(), String> {
    let opened = how.write(true).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).map_err(|e| format!("{}: {e}", file.display()))
}
