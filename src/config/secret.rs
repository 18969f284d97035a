//! Secrets as references: the file says where a secret is, never its value.

use std::fmt;
use std::path::{Path, PathBuf};

use super::reader::Fields;
use super::tree::{Kind, Node};
use crate::error::{Error, ErrorKind, Result};
use crate::mapping::definition::Problem;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// In a file, without one newline at its end.
    File(PathBuf),
    /// In an environment variable.
    Env(String),
    /// In a file with this name in the directory of systemd's `LoadCredential`.
    Credential(String),
    /// In AWS Secrets Manager.
    SecretsManager {
        /// The secret's ARN.
        arn: String,
        /// The field of its JSON document; `None` for the whole text.
        field: Option<String>,
    },
}

/// A secret's text. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The variable with the directory of systemd's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, only for the call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl SecretRef {
    /// Reads the secret; `env` looks up environment variables.
    ///
    /// # Errors
    /// `Config` if the secret is missing or empty.
    pub fn resolve(&self, env: impl Fn(&str) -> Option<String>) -> Result<Secret> {
        let text = match self {
            Self::File(path) => read(path)?,
            Self::Env(name) => env(name).ok_or_else(|| {
                Error::new(ErrorKind::Config, format!("environment variable {name} is not set"))
                    .with_hint("set it to the password, or name another place in the config")
            })?,
            Self::Credential(name) => {
                let directory = env(CREDENTIALS_DIRECTORY).ok_or_else(|| {
                    Error::new(ErrorKind::Config, format!("{CREDENTIALS_DIRECTORY} is not set"))
                        .with_hint(format!("start under systemd with LoadCredential={name}:FILE"))
                })?;
                read(&Path::new(&directory).join(name))?
            }
            Self::SecretsManager { .. } => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "secrets manager is not supported in this version",
                )
                .with_hint("provide the secret as a file or an environment variable"));
            }
        };
        if text.is_empty() {
            return Err(Error::new(ErrorKind::Config, "the password is empty"));
        }
        Ok(Secret(text))
    }
}

fn read(path: &Path) -> Result<String> {
    let mut text = std::fs::read_to_string(path).map_err(|source| {
        Error::new(ErrorKind::Config, format!("read the secret from {}", path.display()))
            .with_source(source)
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Reads `{ file | env | credential | secretsmanager }`; a plain string is refused.
pub(super) fn reference(node: &Node, problems: &mut Vec<Problem>) -> Option<SecretRef> {
    let hint = "write password = { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }";
    if !matches!(node.kind, Kind::Table(_)) {
        let message = "a password must not be in the config itself";
        problems.push(Problem::at(node.span, message).with_hint(hint));
        return None;
    }
    let before = problems.len();
    let mut fields = Fields::open("`password`", node.span, node, problems)?;
    let file = fields.string("file", problems).map(|text| SecretRef::File(text.value.into()));
    let env = fields.string("env", problems).map(|text| SecretRef::Env(text.value));
    let credential = fields.string("credential", problems).and_then(|text| {
        if text.value.contains(['/', '\0']) || text.value.starts_with('.') {
            let message = "a credential is a plain name, as in LoadCredential=NAME:FILE";
            problems.push(Problem::at(text.span, message));
            return None;
        }
        Some(SecretRef::Credential(text.value))
    });
    let arn = fields.string("secretsmanager", problems);
    let field = fields.string("field", problems);
    if let (None, Some(field)) = (&arn, &field) {
        let message = "`field` goes with `secretsmanager`";
        problems.push(Problem::at(field.span, message));
    }
    let manager = arn.map(|arn| SecretRef::SecretsManager {
        arn: arn.value,
        field: field.map(|field| field.value),
    });
    fields.finish(problems);
    let mut found = [file, env, credential, manager].into_iter().flatten();
    let first = found.next();
    if first.is_none() && problems.len() == before {
        problems.push(Problem::at(node.span, "the password's place is missing").with_hint(hint));
    }
    if found.next().is_some() {
        let message = "a password has one place, not several";
        problems.push(Problem::at(node.span, message).with_hint(hint));
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_the_reference_says_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        std::fs::write(&path, "hunter2\n").unwrap();
        let env = |name: &str| match name {
            "PW" => Some("hunter2".to_owned()),
            "CREDENTIALS_DIRECTORY" => folder.path().to_str().map(str::to_owned),
            _ => None,
        };
        for reference in [
            SecretRef::File(path.clone()),
            SecretRef::Env("PW".into()),
            SecretRef::Credential("pw".into()),
        ] {
            let secret = reference.resolve(env).unwrap();
            assert_eq!(secret.expose(), "hunter2");
            assert!(!format!("{secret:?}").contains("hunter2"));
        }
        for reference in [
            SecretRef::File(folder.path().join("absent")),
            SecretRef::Env("ABSENT".into()),
            SecretRef::SecretsManager { arn: "arn".into(), field: None },
        ] {
            assert_eq!(reference.resolve(env).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
