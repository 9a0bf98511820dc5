//! Floats in CBOR, which metadata of newer versions may hold. They are only passed over.

/// Whether a float of so many bytes has no narrower one with its value. What is no number has two bytes and no payload.
pub(super) fn is_shortest(bits: u64, bytes: usize) -> bool {
    match bytes {
        2 => bits & 0x7c00 != 0x7c00 || bits.trailing_zeros() >= 10 || bits == 0x7e00,
        4 => {
            let value = f64::from(f32::from_bits(u32::try_from(bits).unwrap_or_default()));
            value.is_finite() && !has_two_bytes(value)
        }
        _ => {
            let value = f64::from_bits(bits);
            #[expect(clippy::cast_possible_truncation, reason = "it is seen whether anything is lost")]
            let narrow = value as f32;
            value.is_finite() && f64::from(narrow).to_bits() != bits
        }
    }
}

/// Whether a float of two bytes has this value: eleven bits, of which the highest is worth at most 2^15 and the lowest
/// at least 2^-24.
fn has_two_bytes(value: f64) -> bool {
    const LARGEST: f64 = 65_504.0;
    const SMALLEST_NORMAL: f64 = 1.0 / 16_384.0;
    const STEPS: f64 = 16_777_216.0; // 2^24
    let size = value.abs();
    let eleven_bits = size.to_bits().trailing_zeros() >= 42;
    size <= LARGEST && if size >= SMALLEST_NORMAL { eleven_bits } else { (size * STEPS).fract() == 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::cbor::Decoder;

    #[test]
    fn a_float_is_read_in_its_shortest_form_alone() {
        let passes = |bytes: &[u8]| {
            let mut decoder = Decoder::new(bytes);
            decoder.any(1).map(|()| decoder.is_empty())
        };
        // From RFC 8949, appendix A, and the edges of the narrow forms.
        let shortest = ["f90000", "f98000", "f93c00", "fb3ff199999999999a", "f93e00", "f97bff", "fa47c35000"];
        let edges = ["fa7f7fffff", "fb7e37e43c8800759c", "f90001", "f90400", "f9c400", "fbc010666666666666"];
        let more = ["f97c00", "f97e00", "f9fc00", "fa33000000", "fa32800000", "fa477ff000"];
        // Twelve bits, eleven bits of which the lowest is worth 2^-25, and a power of two above the largest of two bytes.
        let one_more = ["fa3f801000", "fa38002000", "fa47800000"];
        for text in shortest.into_iter().chain(edges).chain(more).chain(one_more) {
            assert_eq!(passes(&unhex(text)), Ok(true), "{text}");
        }
        let wider = [
            "fa00000000",
            "fb0000000000000000",
            "fa80000000",
            "fa3f800000",
            "fb3ff8000000000000",
            "fa477fe000",
            "fb40f86a0000000000",
            "fb47efffffe0000000",
            "fa33800000",
            "fa38800000",
            "fa7f800000",
            "fa7fc00000",
            "fb7ff0000000000000",
            "fb7ff8000000000000",
            "fb7ff8000000000001",
            "f97e01",
            "f9fe00",
            "fb36a0000000000000",
            "f814",
            "f81f",
            "f8",
        ];
        for text in wider {
            assert!(passes(&unhex(text)).is_err(), "{text}");
        }
        for simple in ["e0", "f4", "f5", "f6", "f7", "f820", "f8ff"] {
            assert_eq!(passes(&unhex(simple)), Ok(true), "{simple}");
        }
        // Every number with two bytes, as one with four and with eight.
        for bits in 0..=u16::MAX {
            let (sign, power, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            if power == 31 {
                continue;
            }
            let value = if power == 0 {
                fraction * 2_f64.powi(-24)
            } else {
                (1.0 + fraction / 1024.0) * 2_f64.powi(power - 15)
            };
            let value = if sign == 1 { -value } else { value };
            #[expect(clippy::cast_possible_truncation, reason = "the value has 11 bits")]
            let narrow = value as f32;
            assert_eq!(passes(&[&[0xf9][..], &bits.to_be_bytes()].concat()), Ok(true), "{value}");
            assert!(passes(&[&[0xfa][..], &narrow.to_be_bytes()].concat()).is_err(), "{value}");
            assert!(passes(&[&[0xfb][..], &value.to_be_bytes()].concat()).is_err(), "{value}");
        }
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digit).collect()
    }
}
