//! JSON that is safe to show.
//!
//! In: anything that serialises. Out: compact JSON in which what a terminal would act on is
//! escaped, beyond what JSON itself demands. Readers of JSON see no difference.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

use super::is_unprintable;

/// Appends `value` to `buffer`; false, and a useless end of the buffer, if it cannot be written.
/// That happens on map keys that are no strings only.
pub fn write(value: &impl Serialize, buffer: &mut Vec<u8>) -> bool {
    let mut serializer = Serializer::with_formatter(buffer, SafeFormatter);
    value.serialize(&mut serializer).is_ok()
}

struct SafeFormatter;

impl Formatter for SafeFormatter {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        // Nearly every fragment, and half of a line's price if looked at character by character.
        if is_plain(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        for part in fragment.split_inclusive(is_unprintable) {
            let bad = part
                .chars()
                .next_back()
                .filter(|last| is_unprintable(*last));
            let good = part.len() - bad.map_or(0, char::len_utf8);
            writer.write_all(part.as_bytes().get(..good).unwrap_or_default())?;
            if let Some(bad) = bad {
                for unit in bad.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a text holds printable ASCII only. Looks at all of it, which is faster than stopping
/// at the first other byte: the compiler then compares 16 bytes at a time.
fn is_plain(text: &str) -> bool {
    let is_printable = |byte| (b' '..=b'~').contains(&byte);
    text.bytes()
        .fold(true, |plain, byte| plain & is_printable(byte))
}
