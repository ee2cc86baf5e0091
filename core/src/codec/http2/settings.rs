//! SETTINGS (RFC 9113, 6.5): what a peer says of itself.
//!
//! **Invariant:** a value that RFC 9113 does not allow is never in force.

use bytes::BufMut;

use super::WINDOW_BYTES_MAX;
use super::error::{ErrorCode, Fault};
use super::frame::{FrameHead, Kind};

/// The settings of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of the compression table that its decoder keeps, at most.
    pub table_bytes_max: u32,
    /// Whether it takes pushes.
    pub push: bool,
    /// Streams that the other side may have open, at most.
    pub streams_max: u32,
    /// The window that a stream starts with, in bytes.
    pub window_bytes: u32,
    /// The longest payload that it takes, in bytes.
    pub frame_bytes_max: u32,
    /// Bytes of a head that it takes, at most, each field counted with 32 more.
    pub head_bytes_max: u32,
    /// Whether it takes extended CONNECT (RFC 8441).
    pub connect_protocol: bool,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 9113, section 6.5.2, speak for themselves")]
#[repr(u16)]
pub enum Setting {
    HeaderTableSize = 1,
    EnablePush = 2,
    MaxConcurrentStreams = 3,
    InitialWindowSize = 4,
    MaxFrameSize = 5,
    MaxHeaderListSize = 6,
    EnableConnectProtocol = 8,
}

impl Default for Settings {
    /// What is in force before anything was said.
    fn default() -> Self {
        Self {
            table_bytes_max: TABLE_BYTES,
            push: true,
            streams_max: u32::MAX,
            window_bytes: WINDOW_BYTES,
            frame_bytes_max: FRAME_BYTES_MIN,
            head_bytes_max: u32::MAX,
            connect_protocol: false,
        }
    }
}

impl Settings {
    /// Takes the entries of a SETTINGS frame over, in order. Unknown ones are ignored.
    ///
    /// # Errors
    /// When a value is not allowed.
    pub fn apply(&mut self, entries: &[u8]) -> Result<(), Fault> {
        for entry in entries.chunks_exact(Setting::BYTES) {
            let [i0, i1, v0, v1, v2, v3] = *entry else { continue };
            self.set(u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        Ok(())
    }

    fn set(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        match id {
            1 => self.table_bytes_max = value,
            2 => self.push = flag(value)?,
            3 => self.streams_max = value,
            4 if value > WINDOW_BYTES_MAX => return Err(Fault::connection(ErrorCode::FlowControlError)),
            4 => self.window_bytes = value,
            5 if !(FRAME_BYTES_MIN..FRAME_BYTES_END).contains(&value) => return Err(PROTOCOL),
            5 => self.frame_bytes_max = value,
            6 => self.head_bytes_max = value,
            8 => {
                let on = flag(value)?;
                // RFC 8441, 3: not to be taken back.
                if self.connect_protocol && !on {
                    return Err(PROTOCOL);
                }
                self.connect_protocol = on;
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the SETTINGS frame that says in what these differ from what is in force without a word.
    pub fn put(&self, out: &mut impl BufMut) {
        let d = Self::default();
        let entries = [
            (Setting::HeaderTableSize, self.table_bytes_max, d.table_bytes_max),
            (Setting::EnablePush, u32::from(self.push), u32::from(d.push)),
            (Setting::MaxConcurrentStreams, self.streams_max, d.streams_max),
            (Setting::InitialWindowSize, self.window_bytes, d.window_bytes),
            (Setting::MaxFrameSize, self.frame_bytes_max, d.frame_bytes_max),
            (Setting::MaxHeaderListSize, self.head_bytes_max, d.head_bytes_max),
            (Setting::EnableConnectProtocol, u32::from(self.connect_protocol), u32::from(d.connect_protocol)),
        ];
        let said = || entries.iter().filter(|(_, value, default)| value != default);
        FrameHead::put(Kind::Settings, 0, 0, said().count() * Setting::BYTES, out);
        for (id, value, _) in said() {
            out.put_u16(*id as u16);
            out.put_u32(*value);
        }
    }
}

impl Setting {
    /// The bytes of an entry.
    pub const BYTES: usize = 6;
}

fn flag(value: u32) -> Result<bool, Fault> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(PROTOCOL),
    }
}

const PROTOCOL: Fault = Fault::connection(ErrorCode::ProtocolError);

/// SETTINGS_HEADER_TABLE_SIZE before anything was said.
const TABLE_BYTES: u32 = 4096;

/// SETTINGS_INITIAL_WINDOW_SIZE before anything was said.
const WINDOW_BYTES: u32 = 65_535;

/// The least SETTINGS_MAX_FRAME_SIZE, and what it is before anything was said.
const FRAME_BYTES_MIN: u32 = 1 << 14;

/// Behind the largest SETTINGS_MAX_FRAME_SIZE.
const FRAME_BYTES_END: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ours = Settings {
            push: false,
            streams_max: 100,
            window_bytes: 1 << 20,
            head_bytes_max: 1 << 16,
            connect_protocol: true,
            ..Settings::default()
        };
        let mut wire = Vec::new();
        ours.put(&mut wire);
        let mut theirs = Settings::default();
        theirs.apply(&wire[9..]).unwrap();
        assert_eq!(theirs, ours);
        assert_eq!(wire.len(), 9 + 5 * Setting::BYTES);
    }

    #[test]
    fn values_that_may_not_be_are_refused() {
        let cases: [(u16, u32, Option<ErrorCode>); 12] = [
            (2, 0, None),
            (2, 2, Some(ErrorCode::ProtocolError)),
            (4, WINDOW_BYTES_MAX, None),
            (4, WINDOW_BYTES_MAX + 1, Some(ErrorCode::FlowControlError)),
            (5, 16_383, Some(ErrorCode::ProtocolError)),
            (5, 16_384, None),
            (5, 16_777_215, None),
            (5, 16_777_216, Some(ErrorCode::ProtocolError)),
            (8, 1, None),
            (8, 2, Some(ErrorCode::ProtocolError)),
            (1, u32::MAX, None),
            (0x1234, 7, None),
        ];
        for (id, value, code) in cases {
            let refused = Settings::default().set(id, value).err();
            assert_eq!(refused.map(|f| f.code), code, "{id} {value}");
        }
        let mut settings = Settings { connect_protocol: true, ..Settings::default() };
        assert!(settings.set(8, 0).is_err());
    }
}
