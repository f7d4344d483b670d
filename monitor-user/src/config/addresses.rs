//! The databases of addresses that the operator names: files → [`Addresses`].
//!
//! In: paths. Out: the databases, or the [`ConfigError`] that says what to mend. Rules judge by
//! them, so they must be their owner's alone, as the policy must.

use std::path::Path;

use super::error::ConfigError;
use super::{AddressFiles, file};
use crate::core::addresses::{Addresses, Database};

/// Longest file: twice the largest that is of use here (countries with cities, of 2026). All of it
/// is held in memory.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads the databases that are named.
///
/// # Errors
///
/// [`ConfigError`] if a file cannot be trusted or read, or is no database.
pub fn load(files: &AddressFiles) -> Result<Addresses, ConfigError> {
    let database = |path: &Option<_>| path.as_deref().map(read).transpose();
    Ok(Addresses {
        asn: database(&files.asn)?,
        country: database(&files.country)?,
    })
}

fn read(path: &Path) -> Result<Database, ConfigError> {
    let bytes = file::read_bytes(path, FILE_BYTES_MAX)?;
    Database::new(bytes).map_err(|fault| ConfigError::NoDatabase {
        file: path.to_owned(),
        fault,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[track_caller]
    fn check_refused(content: &[u8], mode: u32, expect: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.mmdb");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let files = AddressFiles {
            country: Some(path),
            ..AddressFiles::default()
        };
        let said = load(&files).unwrap_err().to_string();
        let folder = folder.path().display().to_string();
        assert_eq!(said.replace(&folder, "DIR"), expect);
    }

    #[test]
    fn a_database_is_read() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/addresses/asn.mmdb");
        let files = AddressFiles {
            asn: Some(file),
            country: None,
        };
        let addresses = load(&files).unwrap();
        assert!(addresses.asn.is_some() && addresses.country.is_none());
        assert_eq!(
            load(&AddressFiles::default()).unwrap(),
            Addresses::default()
        );
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let remedy = "name a file in the MaxMind DB format, such as GeoLite2-ASN.mmdb";
        check_refused(
            b"<html>",
            0o600,
            &format!(
                "DIR/x.mmdb: no database of addresses: invalid database: could not find MaxMind DB \
                 metadata in file; {remedy}"
            ),
        );
        check_refused(
            b"",
            0o622,
            "DIR/x.mmdb can be written by others than its owner (mode 0622), who could lift a ban; \
             mend it with: chmod go-w DIR/x.mmdb",
        );
    }

    #[test]
    fn a_missing_database_is_named() {
        let files = AddressFiles {
            asn: Some("/nonexistent/x.mmdb".into()),
            country: None,
        };
        assert_eq!(
            load(&files).unwrap_err().to_string(),
            "cannot read /nonexistent/x.mmdb: No such file or directory (os error 2); \
             check the path that was given"
        );
    }
}
