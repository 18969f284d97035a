//! Values as Postgres text.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::loss::Loss;

pub(super) fn bool_text(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

pub(super) fn hex_byte(byte: u8, out: &mut String) {
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

pub(super) fn hex(bytes: &[u8], out: &mut String) {
    out.reserve(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        hex_byte(*byte, out);
    }
}

pub(super) fn base64(bytes: &[u8], out: &mut String) {
    BASE64.encode_string(bytes, out);
}

pub(super) fn uuid_text(bytes: [u8; 16], out: &mut String) {
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        hex_byte(byte, out);
    }
}

pub(super) fn uuid(text: &str, out: &mut String) -> Result<(), Loss> {
    let wrong = || Loss::format("not a uuid");
    let bytes = text.as_bytes();
    let hyphens =
        bytes.len() == 36 && [8, 13, 18, 23].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    if !hyphens && bytes.len() != 32 {
        return Err(wrong());
    }
    let mut packed = [0_u8; 16];
    let mut digits = bytes.iter().filter(|byte| !(hyphens && **byte == b'-'));
    for byte in &mut packed {
        for _ in 0..2 {
            let digit = digits.next().and_then(|digit| char::from(*digit).to_digit(16));
            *byte = *byte << 4 | u8::try_from(digit.ok_or_else(wrong)?).unwrap_or(0);
        }
    }
    if digits.next().is_some() {
        return Err(wrong());
    }
    uuid_text(packed, out);
    Ok(())
}

pub(super) fn inet(text: &str, out: &mut String) -> Result<(), Loss> {
    let wrong = || Loss::format("not an address, nor an address with a prefix length");
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    out.push_str(&address.to_string());
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if let Some(prefix) = prefix {
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let length: u8 = prefix.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        if length > longest {
            return Err(wrong());
        }
        if length < longest {
            out.push('/');
            out.push_str(&length.to_string());
        }
    }
    Ok(())
}
