//! What the operator's databases say of an address: its autonomous system, its country.
//!
//! In: bytes in the MaxMind DB format, as others made them; addresses. Out: an [`AddressOrigin`],
//! or nothing where the databases do not have the address. A damaged file says nothing: the reader
//! checks every offset and bounds what one record may hold.
//!
//! Format: <https://maxmind.github.io/MaxMind-DB/>. Layout of the records: that of GeoLite2, which
//! DB-IP's files have as well.

use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader, path};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::catalog::host::forms;

/// Addresses that every database of the Internet has: public resolvers of several countries. One
/// that has none of them is another kind of file, or one of the operator's own networks.
const WELL_KNOWN: [[u8; 4]; 6] = [
    [1, 1, 1, 1],
    [8, 8, 8, 8],
    [9, 9, 9, 9],
    [77, 88, 8, 8],
    [114, 114, 114, 114],
    [208, 67, 222, 222],
];

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressOrigin {
    /// Number of the autonomous system that announces it, above 0.
    pub asn: Option<u32>,
    /// Where it is, as the database has it.
    pub country: Option<CountryCode>,
}

/// An ISO 3166 alpha-2 code: two capital letters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// `None` if it is anything but two capital letters.
    #[must_use]
    pub fn parse(text: &str) -> Option<CountryCode> {
        let code: [u8; 2] = text.as_bytes().try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_uppercase)
            .then_some(CountryCode(code))
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One database.
pub struct Database {
    reader: Reader<Vec<u8>>,
    digest: [u8; 32],
}

impl Database {
    /// A database out of the bytes of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with the bytes.
    pub fn new(bytes: Vec<u8>) -> Result<Database, String> {
        let digest = Sha256::digest(&bytes).into();
        let reader = Reader::from_source(bytes).map_err(|error| error.to_string())?;
        Ok(Database { reader, digest })
    }

    /// What it calls itself: `GeoLite2-ASN`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was made, in seconds since 1970 began in UTC.
    #[must_use]
    pub fn built_seconds(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// A field of the record of an address.
    fn field<'a, T: Deserialize<'a>>(&'a self, ip: IpAddr, path: &[PathElement<'_>]) -> Option<T> {
        // An IPv4 file knows no IPv6 address, and a damaged record nothing.
        self.reader.lookup(ip).ok()?.decode_path(path).ok()?
    }
}

/// Two are the same if their files are.
impl PartialEq for Database {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = self.digest.iter();
        digest
            .into_iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The databases that there are.
#[derive(Debug, Default, PartialEq)]
pub struct Addresses {
    /// Of autonomous systems.
    pub asn: Option<Database>,
    /// Of countries.
    pub country: Option<Database>,
}

impl Addresses {
    /// What they say of an address. Of one behind a NAT64, what they say of the IPv4 address that
    /// it stands for.
    #[must_use]
    pub fn origin(&self, ip: IpAddr) -> AddressOrigin {
        if self.asn.is_none() && self.country.is_none() {
            return AddressOrigin::default();
        }
        let ip = forms(ip).last().unwrap_or(ip);
        AddressOrigin {
            asn: self.asn.as_ref().and_then(|database| asn(database, ip)),
            country: self.country.as_ref().and_then(|it| country(it, ip)),
        }
    }

    /// The database of autonomous systems is there, and has no address that all have.
    #[must_use]
    pub fn lacks_asn(&self) -> bool {
        lacks(self.asn.as_ref(), |database, ip| {
            asn(database, ip).is_some()
        })
    }

    /// The database of countries is there, and has no address that all have.
    #[must_use]
    pub fn lacks_country(&self) -> bool {
        lacks(self.country.as_ref(), |it, ip| country(it, ip).is_some())
    }
}

fn lacks(database: Option<&Database>, has: impl Fn(&Database, IpAddr) -> bool) -> bool {
    database.is_some_and(|database| !WELL_KNOWN.iter().any(|&ip| has(database, ip.into())))
}

fn asn(database: &Database, ip: IpAddr) -> Option<u32> {
    database
        .field(ip, &path!["autonomous_system_number"])
        .filter(|number| *number > 0)
}

/// Where the address is; where nobody knows, where it is registered.
fn country(database: &Database, ip: IpAddr) -> Option<CountryCode> {
    let of = |path: &[PathElement<'_>]| CountryCode::parse(database.field(ip, path)?);
    of(&path!["country", "iso_code"]).or_else(|| of(&path!["registered_country", "iso_code"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::addresses;

    const ASN: &[u8] = include_bytes!("../../tests/addresses/asn.mmdb");
    const COUNTRY: &[u8] = include_bytes!("../../tests/addresses/country.mmdb");

    #[track_caller]
    fn check(ip: &str, asn: Option<u32>, country: Option<&str>) {
        let origin = addresses().origin(ip.parse().unwrap());
        assert_eq!(origin.asn, asn, "{ip}");
        assert_eq!(origin.country.as_ref().map(CountryCode::as_str), country);
    }

    #[test]
    fn an_address_has_an_autonomous_system_and_a_country() {
        check("203.0.113.9", Some(64_496), Some("CN"));
        check("198.51.100.1", Some(64_511), Some("US"));
        check("2001:db8::1", Some(65_551), Some("DE"));
        // Only registered there.
        check("192.0.2.1", None, Some("SG"));
        check("10.0.0.1", None, None);
        check("::1", None, None);
        // The same host, written otherwise, and behind a NAT64.
        check("::ffff:203.0.113.9", Some(64_496), Some("CN"));
        check("64:ff9b::203.0.113.9", Some(64_496), Some("CN"));
    }

    #[test]
    fn no_database_says_nothing() {
        let nothing = Addresses::default();
        let origin = nothing.origin([203, 0, 113, 9].into());
        assert_eq!(origin, AddressOrigin::default());
        assert!(!nothing.lacks_asn() && !nothing.lacks_country());
    }

    #[test]
    fn a_database_of_another_kind_is_noticed() {
        let database = |bytes: &[u8]| Database::new(bytes.to_vec()).ok();
        let swapped = Addresses {
            asn: database(COUNTRY),
            country: database(ASN),
        };
        assert!(swapped.lacks_asn() && swapped.lacks_country());
        let right = addresses();
        assert!(!right.lacks_asn() && !right.lacks_country());
    }

    #[test]
    fn a_country_is_two_capital_letters() {
        for text in ["", "C", "CHN", "cn", "1A", "é"] {
            assert_eq!(CountryCode::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_database_is() {
        let database = Database::new(ASN.to_vec()).unwrap();
        assert_eq!(database.kind(), "Test-ASN");
        assert_eq!(database.built_seconds(), 1_767_225_600);
        assert_eq!(database, Database::new(ASN.to_vec()).unwrap());
        assert_ne!(database, Database::new(COUNTRY.to_vec()).unwrap());
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for bytes in [
            &b""[..],
            b"PK\x03\x04",
            &[0xff; 4096],
            &ASN[..ASN.len() / 2],
        ] {
            assert!(Database::new(bytes.to_vec()).is_err());
        }
    }

    /// Every byte changed to what hurts most, every bit turned, every length: none panics, hangs
    /// or gives a country that is no code.
    #[test]
    fn damaged_databases_do_no_harm() {
        let ips = ["203.0.113.9", "192.0.2.1", "10.0.0.1", "2001:db8::1", "::"];
        let ips = ips.map(|ip| ip.parse::<IpAddr>().unwrap());
        let mut readable = 0;
        let mut ask = |bytes: &[u8]| {
            let Ok(asn) = Database::new(bytes.to_vec()) else {
                return;
            };
            readable += 1;
            let country = Database::new(bytes.to_vec()).ok();
            let addresses = Addresses {
                asn: Some(asn),
                country,
            };
            for ip in ips {
                let origin = addresses.origin(ip);
                assert_ne!(origin.asn, Some(0));
            }
            std::hint::black_box(addresses.lacks_asn());
        };
        for original in [ASN, COUNTRY] {
            for length in 0..original.len() {
                ask(&original[..length]);
            }
            for place in 0..original.len() {
                let mut bytes = original.to_vec();
                for value in (0..8)
                    .map(|bit| original[place] ^ (1 << bit))
                    .chain([0, 0x20, 0xe0, 0xff])
                {
                    bytes[place] = value;
                    ask(&bytes);
                }
            }
        }
        assert!(readable > 1_000, "{readable}");
    }
}
