//! The beginning of a batch's records, decompressed.
//!
//! By the codecs of <https://kafka.apache.org/documentation/#recordbatch>: gzip, snappy (raw, and in the frames of the
//! Java library), LZ4's frames, zstd. What was captured may be a part: as much as follows from that is given, and
//! never more than [`limits::KAFKA_DECODED_BYTES`]. Checksums at an end are not asked for.

use std::io::Read;

use crate::limits;

/// How the frames of snappy-java begin; two numbers of four bytes follow.
const SNAPPY_JAVA: &[u8] = b"\x82SNAPPY\0";
const SNAPPY_JAVA_HEADER: usize = 16;

/// How a frame of zstd begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The beginning of what `bytes` are the beginning of. Empty where nothing can be told.
pub(super) fn decode(codec: i16, bytes: &[u8]) -> Vec<u8> {
    match codec {
        1 => prefix(flate2::read::GzDecoder::new(bytes)),
        2 => snappy(bytes),
        3 => prefix(lz4_flex::frame::FrameDecoder::new(bytes)),
        4 if zstd_window(bytes).is_some_and(|window| window <= limits::KAFKA_ZSTD_WINDOW_BYTES) => {
            ruzstd::decoding::StreamingDecoder::new(bytes).map(prefix).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// What can be read, up to the limit. What comes before an error stands.
fn prefix(decoder: impl Read) -> Vec<u8> {
    let mut decoded = Vec::new();
    // The error is that the bytes end here, or are damaged.
    _ = decoder.take(limits::KAFKA_DECODED_BYTES as u64).read_to_end(&mut decoded);
    decoded
}

/// A block can be had as a whole only.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    if !bytes.starts_with(SNAPPY_JAVA) {
        block(bytes, &mut decoded);
        return decoded;
    }
    let mut rest = bytes.get(SNAPPY_JAVA_HEADER..).unwrap_or_default();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some((bytes, behind)) = behind.split_at_checked(length) else { break };
        if !block(bytes, &mut decoded) {
            break;
        }
        rest = behind;
    }
    decoded
}

/// Whether it could be decompressed and fits.
fn block(bytes: &[u8], decoded: &mut Vec<u8>) -> bool {
    let room = limits::KAFKA_DECODED_BYTES.saturating_sub(decoded.len());
    // The length is the block's own word, and what is made room for.
    if snap::raw::decompress_len(bytes).map_or(true, |length| length == 0 || length > room) {
        return false;
    }
    let block = snap::raw::Decoder::new().decompress_vec(bytes);
    block.map(|block| decoded.extend_from_slice(&block)).is_ok()
}

/// The window that a frame asks for (RFC 8878, section 3.1.1.1).
fn zstd_window(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&ZSTD)?;
    let (&descriptor, rest) = rest.split_first()?;
    if descriptor & 0x20 == 0 {
        let (&window, _) = rest.split_first()?;
        let base = 1_u64.checked_shl(10 + u32::from(window >> 3))?;
        return Some(base + (base / 8) * u64::from(window & 7));
    }
    // A single segment: the window is the content's length, behind the dictionary's id.
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).copied()?;
    let rest = rest.get(dictionary..)?;
    let length = match descriptor >> 6 {
        0 => u64::from(*rest.first()?),
        1 => u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*rest.first_chunk()?)),
        _ => u64::from_le_bytes(*rest.first_chunk()?),
    };
    Some(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| b"record "[i % 7].wrapping_add((i / 1000) as u8)).collect()
    }

    fn snappy_java(text: &[u8]) -> Vec<u8> {
        let mut framed = [SNAPPY_JAVA, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for part in text.chunks(4096) {
            let block = snap::raw::Encoder::new().compress_vec(part).unwrap();
            framed.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
            framed.extend_from_slice(&block);
        }
        framed
    }

    fn compressed(text: &[u8]) -> Vec<(i16, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(text).unwrap();
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(text).unwrap();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        vec![
            (1, gzip.finish().unwrap()),
            (2, snappy_java(text)),
            (2, snap::raw::Encoder::new().compress_vec(text).unwrap()),
            (3, lz4.finish().unwrap()),
            (4, ruzstd::encoding::compress_to_vec(text, level)),
        ]
    }

    #[test]
    fn every_codec_is_undone_and_every_part_is_a_beginning() {
        let text = text(20_000);
        for (codec, bytes) in compressed(&text) {
            assert!(decode(codec, &bytes) == text, "{codec}");
            for end in 0..bytes.len() {
                let beginning = decode(codec, &bytes[..end]);
                assert!(text.starts_with(&beginning), "{codec} at {end}");
            }
        }
    }

    #[test]
    fn nothing_grows_beyond_the_limit() {
        let text = vec![b'x'; 40 * limits::KAFKA_DECODED_BYTES];
        for (codec, bytes) in compressed(&text) {
            assert!(decode(codec, &bytes).len() <= limits::KAFKA_DECODED_BYTES, "{codec}");
        }
        // A block that says it is as large as can be, and a window of that kind.
        assert!(decode(2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0]).is_empty());
        assert_eq!(zstd_window(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff]), Some(0x3c0_0000_0000));
        assert!(decode(4, &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0, 0]).is_empty());
    }

    #[test]
    fn damage_is_no_text_and_no_panic() {
        for (codec, bytes) in compressed(&text(3_000)) {
            for position in 0..bytes.len() {
                for mask in [1, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[position] ^= mask;
                    assert!(decode(codec, &damaged).len() <= limits::KAFKA_DECODED_BYTES);
                }
            }
        }
        for codec in 0..8 {
            assert!(decode(codec, b"neither of them").is_empty(), "{codec}");
        }
    }
}
