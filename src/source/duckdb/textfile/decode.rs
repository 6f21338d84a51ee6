//! The decoder of a file's bytes. Gzip and zstd are unpacked, byte order marks are read and left out, other encodings become
//! UTF-8, and what is no text of the encoding ends the reading where it stands. Nothing is replaced or guessed.

use std::fs::File;
use std::io::{BufRead, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// How a file's characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// What Windows programs of western countries write.
    Windows1252,
    /// ISO 8859-1.
    Latin1,
    /// UTF-16, the low byte first.
    Utf16Le,
    /// UTF-16, the high byte first.
    Utf16Be,
    /// Of another country or an older program, by its position among those.
    Legacy(usize),
}

/// Encodings of other countries and older programs, by the name that settings give them: the Encoding Standard's.
const LEGACY: [(&str, &encoding_rs::Encoding); 10] = [
    ("windows-1250", encoding_rs::WINDOWS_1250),
    ("windows-1251", encoding_rs::WINDOWS_1251),
    ("iso-8859-2", encoding_rs::ISO_8859_2),
    ("iso-8859-15", encoding_rs::ISO_8859_15),
    ("macintosh", encoding_rs::MACINTOSH),
    ("shift_jis", encoding_rs::SHIFT_JIS),
    ("euc-jp", encoding_rs::EUC_JP),
    ("gb18030", encoding_rs::GB18030),
    ("big5", encoding_rs::BIG5),
    ("euc-kr", encoding_rs::EUC_KR),
];

impl Encoding {
    /// What settings call them.
    pub(in crate::source::duckdb) const NAMES: &[&str] = &[
        "utf-8",
        "windows-1252",
        "latin-1",
        "utf-16le",
        "utf-16be",
        LEGACY[0].0,
        LEGACY[1].0,
        LEGACY[2].0,
        LEGACY[3].0,
        LEGACY[4].0,
        LEGACY[5].0,
        LEGACY[6].0,
        LEGACY[7].0,
        LEGACY[8].0,
        LEGACY[9].0,
    ];

    /// The encoding that a setting means.
    pub(super) fn named(name: &str) -> Option<Encoding> {
        const OURS: [Encoding; 5] =
            [Encoding::Utf8, Encoding::Windows1252, Encoding::Latin1, Encoding::Utf16Le, Encoding::Utf16Be];
        let at = Encoding::NAMES.iter().position(|known| *known == name)?;
        Some(OURS.get(at).copied().unwrap_or(Encoding::Legacy(at.saturating_sub(OURS.len()))))
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Encoding::Utf8 => "UTF-8",
            Encoding::Windows1252 => "windows-1252",
            Encoding::Latin1 => "latin-1",
            Encoding::Utf16Le => "UTF-16LE",
            Encoding::Utf16Be => "UTF-16BE",
            Encoding::Legacy(at) => LEGACY[at].0,
        }
    }
}

impl<'de> serde::Deserialize<'de> for Encoding {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Encoding, D::Error> {
        let name = String::deserialize(from)?;
        Encoding::named(&name).ok_or_else(|| serde::de::Error::custom("an unknown encoding"))
    }
}

/// Why bytes are no text.
#[derive(Debug)]
pub(super) enum Undecodable {
    /// The file could not be read.
    Io(std::io::Error),
    /// Packed data that is damaged or cut off.
    Packed,
    /// Bytes that the encoding gives no meaning.
    Encoding(Encoding),
    /// UTF-16 by the look of it, with or without a byte order mark, where the settings do not say so.
    LooksUtf16(Encoding),
    /// Another format, whatever the name says: what it is, and what to write.
    Format(&'static str, &'static str),
}

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What the first bytes of formats are that are no text.
const FORMATS: [(&[u8], &str, &str); 5] = [
    (b"PAR1", "a Parquet file", "name it with the extension `.parquet`"),
    (
        b"PK\x03\x04",
        "a ZIP archive or an Excel workbook",
        "give a workbook its extension (`.xlsx`), or unpack the archive and name the file in it",
    ),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "give it its extension, `.xls`"),
    (b"BZh", "packed with bzip2", "unpack it, or pack it with gzip or zstd"),
    (b"\xfd7zXZ", "packed with xz", "unpack it, or pack it with gzip or zstd"),
];

/// What a frame of zstd begins with.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frames that hold no data, which packers of several threads write.
const SKIPPED: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

type Packed = Box<dyn BufRead + Send>;

/// The frames of a file packed with zstd, one after the other: packers of several threads write many.
enum Frames {
    Between(Packed),
    Within(Box<StreamingDecoder<Packed, FrameDecoder>>),
    Ended,
}

impl Frames {
    fn new(input: Packed) -> Frames {
        Frames::Between(input)
    }
}

impl Read for Frames {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match std::mem::replace(self, Frames::Ended) {
                Frames::Ended => return Ok(0),
                Frames::Between(mut input) => {
                    if input.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let mut magic = [0; 4];
                    input.read_exact(&mut magic)?;
                    if SKIPPED.contains(&u32::from_le_bytes(magic)) {
                        let mut length = [0; 4];
                        input.read_exact(&mut length)?;
                        let length = u64::from(u32::from_le_bytes(length));
                        let skipped = std::io::copy(&mut input.by_ref().take(length), &mut std::io::sink())?;
                        if skipped < length {
                            return Err(std::io::ErrorKind::UnexpectedEof.into());
                        }
                        *self = Frames::Between(input);
                        continue;
                    }
                    let whole: Packed = Box::new(std::io::Cursor::new(magic).chain(input));
                    let decoder = StreamingDecoder::new(whole).map_err(std::io::Error::other)?;
                    *self = Frames::Within(Box::new(decoder));
                }
                Frames::Within(mut decoder) => {
                    let read = decoder.read(out)?;
                    *self = match read {
                        0 if !out.is_empty() => Frames::Between(decoder.into_inner()),
                        _ => Frames::Within(decoder),
                    };
                    if read > 0 || out.is_empty() {
                        return Ok(read);
                    }
                }
            }
        }
    }
}

/// The text of a file, piece by piece.
pub(super) struct Decoder {
    input: Box<dyn Read + Send>,
    declared: Option<Encoding>,
    encoding: Option<Encoding>,
    marked: bool,
    packed: bool,
    /// What is left of a character that the bytes decoded last cut through, in an encoding of [`LEGACY`].
    legacy: Option<encoding_rs::Decoder>,
    /// Bytes that are read and not decoded yet.
    raw: Vec<u8>,
    ended: bool,
    /// What is wrong behind the text handed out last.
    failed: Option<Undecodable>,
}

impl Decoder {
    pub(super) fn new(mut file: File, declared: Option<Encoding>) -> Result<Decoder, Undecodable> {
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(Undecodable::Io)?;
        if let Some((_, what, help)) = FORMATS.iter().find(|(magic, ..)| start.starts_with(magic)) {
            return Err(Undecodable::Format(what, help));
        }
        let (gzip, zstd) = (start.starts_with(b"\x1f\x8b"), start.starts_with(&ZSTD));
        let whole = std::io::Cursor::new(start).chain(file);
        let input: Box<dyn Read + Send> = if gzip {
            Box::new(MultiGzDecoder::new(whole))
        } else if zstd {
            Box::new(Frames::new(Box::new(std::io::BufReader::new(whole))))
        } else {
            Box::new(whole)
        };
        Ok(Decoder {
            input,
            declared,
            encoding: None,
            marked: false,
            packed: gzip || zstd,
            legacy: None,
            raw: Vec::new(),
            ended: false,
            failed: None,
        })
    }

    /// The encoding, once something was read.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding.or(self.declared).unwrap_or(Encoding::Utf8)
    }

    /// Whether the file begins with a byte order mark.
    pub(super) fn marked(&self) -> bool {
        self.marked
    }

    /// Appends more text; `false` at the end. What cannot be decoded is reported after the text before it was handed
    /// out.
    pub(super) fn fill(&mut self, out: &mut Vec<u8>) -> Result<bool, Undecodable> {
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        let before = out.len();
        while out.len() == before && !self.ended {
            self.read_chunk()?;
            self.decode(out);
            if out.len() == before
                && let Some(failed) = self.failed.take()
            {
                return Err(failed);
            }
        }
        Ok(out.len() > before)
    }

    fn read_chunk(&mut self) -> Result<(), Undecodable> {
        let before = self.raw.len();
        let read = self.input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut self.raw);
        read.map_err(|error| if self.packed { Undecodable::Packed } else { Undecodable::Io(error) })?;
        self.ended = self.raw.len() - before < CHUNK_BYTES;
        if self.encoding.is_none() {
            let (encoding, mark) = match self.raw.as_slice() {
                [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
                [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
                    return Err(Undecodable::Format("UTF-32", "convert the file to UTF-8"));
                }
                [0xff, 0xfe, ..] => (Encoding::Utf16Le, 2),
                [0xfe, 0xff, ..] => (Encoding::Utf16Be, 2),
                raw => (self.declared.unwrap_or_else(|| unmarked(raw)), 0),
            };
            let sixteen = |encoding| matches!(encoding, Encoding::Utf16Le | Encoding::Utf16Be);
            if sixteen(encoding) && !self.declared.is_some_and(sixteen) {
                return Err(Undecodable::LooksUtf16(encoding));
            }
            self.marked = mark > 0;
            self.raw.drain(..mark);
            self.encoding = Some(encoding);
        }
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<u8>) {
        let encoding = self.encoding();
        match encoding {
            Encoding::Utf8 => match std::str::from_utf8(&self.raw) {
                Ok(_) => out.append(&mut self.raw),
                Err(error) => {
                    let rest = self.raw.split_off(error.valid_up_to());
                    out.append(&mut self.raw);
                    // A character that the chunk's end cuts through is whole in the next.
                    if error.error_len().is_some() || self.ended {
                        self.failed = Some(Undecodable::Encoding(encoding));
                        self.ended = true;
                    }
                    self.raw = rest;
                }
            },
            Encoding::Latin1 | Encoding::Windows1252 => {
                let mut text = String::with_capacity(self.raw.len());
                for byte in self.raw.drain(..) {
                    let character = match byte {
                        0x80..=0x9f if encoding == Encoding::Windows1252 => WINDOWS_1252[usize::from(byte - 0x80)],
                        byte => char::from(byte),
                    };
                    if character == UNDEFINED {
                        self.failed = Some(Undecodable::Encoding(encoding));
                        self.ended = true;
                        break;
                    }
                    text.push(character);
                }
                out.extend_from_slice(text.as_bytes());
            }
            Encoding::Legacy(at) => {
                let new = || LEGACY[at].1.new_decoder_without_bom_handling();
                let decoder = self.legacy.get_or_insert_with(new);
                let room = decoder.max_utf8_buffer_length_without_replacement(self.raw.len());
                let mut text = String::with_capacity(room.unwrap_or(self.raw.len() * 3));
                let (end, _) = decoder.decode_to_string_without_replacement(&self.raw, &mut text, self.ended);
                if matches!(end, encoding_rs::DecoderResult::Malformed(..)) {
                    self.failed = Some(Undecodable::Encoding(encoding));
                    self.ended = true;
                }
                self.raw.clear();
                out.extend_from_slice(text.as_bytes());
            }
            Encoding::Utf16Le | Encoding::Utf16Be => {
                let mut units: Vec<u16> = self
                    .raw
                    .chunks_exact(2)
                    .map(|pair| match encoding {
                        Encoding::Utf16Le => u16::from_le_bytes([pair[0], pair[1]]),
                        _ => u16::from_be_bytes([pair[0], pair[1]]),
                    })
                    .collect();
                let cut = units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) && !self.ended;
                if cut {
                    units.pop();
                }
                let left = self.raw.split_off(units.len() * 2);
                self.raw = left;
                let mut text = String::with_capacity(units.len());
                for character in char::decode_utf16(units) {
                    match character {
                        Ok(character) => text.push(character),
                        Err(_) => {
                            self.failed = Some(Undecodable::Encoding(encoding));
                            self.ended = true;
                            break;
                        }
                    }
                }
                out.extend_from_slice(text.as_bytes());
                if self.ended && !self.raw.is_empty() && self.failed.is_none() {
                    self.failed = Some(Undecodable::Encoding(encoding));
                }
            }
        }
    }
}

/// The encoding of a file without a mark: UTF-8, or UTF-16 where every second byte is zero.
fn unmarked(raw: &[u8]) -> Encoding {
    let start = &raw[..raw.len().min(4096)];
    let zeros = |parity: usize| start.iter().skip(parity).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    if odd * 4 > start.len() && even * 16 < odd.max(1) {
        return Encoding::Utf16Le;
    }
    if even * 4 > start.len() && odd * 16 < even.max(1) {
        return Encoding::Utf16Be;
    }
    Encoding::Utf8
}

const UNDEFINED: char = '\u{fffd}';
/// Bytes 0x80 to 0x9f of windows-1252.
const WINDOWS_1252: [char; 32] = [
    '€', UNDEFINED, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', UNDEFINED, 'Ž', UNDEFINED, UNDEFINED, '‘',
    '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', UNDEFINED, 'ž', 'Ÿ',
];

impl Decoder {
    /// Reports once more, at the next call, what was wrong behind the text handed out last.
    pub(super) fn fail_again(&mut self, wrong: Undecodable) {
        self.failed = Some(wrong);
        self.ended = true;
    }
}
