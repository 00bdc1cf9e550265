//! The messages of CRIU's service (criu(8), "service"): protocol buffers on a packet socket, as far as a runtime needs
//! them. The numbers are those of the public protocol and never change.

/// The kind of a request to CRIU, and of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    Dump = 1,
    Restore = 2,
    PreDump = 4,
    Notify = 6,
    FeatureCheck = 9,
    Version = 10,
}

impl RequestKind {
    /// As CRIU's own messages and those of every runtime spell it.
    pub fn name(self) -> &'static str {
        match self {
            RequestKind::Dump => "DUMP",
            RequestKind::Restore => "RESTORE",
            RequestKind::PreDump => "PRE_DUMP",
            RequestKind::Notify => "NOTIFY",
            RequestKind::FeatureCheck => "FEATURE_CHECK",
            RequestKind::Version => "VERSION",
        }
    }
}

/// The numbers of the fields of CRIU's options.
pub mod field {
    pub const IMAGES_DIR_FD: u32 = 1;
    pub const PID: u32 = 2;
    pub const LEAVE_RUNNING: u32 = 3;
    pub const EXT_UNIX_SK: u32 = 4;
    pub const TCP_ESTABLISHED: u32 = 5;
    pub const EVASIVE_DEVICES: u32 = 6;
    pub const SHELL_JOB: u32 = 7;
    pub const FILE_LOCKS: u32 = 8;
    pub const LOG_LEVEL: u32 = 9;
    pub const LOG_FILE: u32 = 10;
    pub const PAGE_SERVER: u32 = 11;
    pub const NOTIFY_SCRIPTS: u32 = 12;
    pub const ROOT: u32 = 13;
    pub const PARENT_IMAGE: u32 = 14;
    pub const TRACK_MEMORY: u32 = 15;
    pub const AUTO_DEDUP: u32 = 16;
    pub const WORK_DIR_FD: u32 = 17;
    pub const LINK_REMAP: u32 = 18;
    pub const MANAGE_CGROUPS: u32 = 24;
    pub const CGROUP_ROOT: u32 = 25;
    pub const RESTORE_SIBLING: u32 = 26;
    pub const INHERIT_FD: u32 = 27;
    pub const MANAGE_CGROUPS_MODE: u32 = 34;
    pub const EXTERNAL: u32 = 37;
    pub const EMPTY_NAMESPACES: u32 = 38;
    pub const JOIN_NAMESPACE: u32 = 39;
    pub const FREEZE_CGROUP: u32 = 44;
    pub const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub const LAZY_PAGES: u32 = 48;
    pub const ORPHAN_PTS_MASTER: u32 = 50;
    pub const CONFIG_FILE: u32 = 51;
    pub const TCP_CLOSE: u32 = 52;
    pub const LSM_PROFILE: u32 = 53;
    pub const LSM_MOUNT_CONTEXT: u32 = 63;
}

/// A message under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    /// Appends an integer, an enumerator or a boolean.
    pub fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    /// Appends a boolean that is true; false is what an absent one means.
    pub fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.number(field, 1);
        }
    }

    /// Appends a string.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// Appends a message within this one.
    pub fn message(&mut self, field: u32, value: &Message) {
        self.bytes(field, &value.0);
    }

    /// Appends a message of the two strings that most of CRIU's lists are made of.
    pub fn pair(&mut self, field: u32, first: &str, second: &str) {
        let mut m = Message::default();
        m.bytes(1, first.as_bytes());
        m.bytes(2, second.as_bytes());
        self.bytes(field, &m.0);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A request with its options.
pub fn request(kind: RequestKind, options: &Message) -> Vec<u8> {
    let mut m = Message::default();
    m.number(1, kind as u64);
    m.bytes(2, &options.0);
    m.0
}

/// Asks which version of CRIU there is.
pub fn version_request() -> Vec<u8> {
    let mut m = Message::default();
    m.number(1, RequestKind::Version as u64);
    m.0
}

/// A feature of the kernel that CRIU finds out about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Which pages are written to can be found out (soft-dirty).
    MemoryTracking = 1,
    /// Pages can be filled in later (userfaultfd(2)).
    LazyPages = 2,
}

/// Asks whether the kernel has a feature.
pub fn feature_request(feature: Feature) -> Vec<u8> {
    let mut features = Message::default();
    features.number(feature as u32, 1);
    let mut m = Message::default();
    m.number(1, RequestKind::FeatureCheck as u64);
    m.bytes(5, &features.0);
    m.0
}

/// The answer to a notification.
pub fn acknowledgement() -> Vec<u8> {
    let mut m = Message::default();
    m.number(1, RequestKind::Notify as u64);
    m.number(3, 1);
    m.0
}

/// A message of CRIU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub kind: u64,
    pub success: bool,
    /// The first restored process.
    pub restored: Option<i32>,
    /// The point that it has reached.
    pub notify: Option<Notification>,
    pub errno: i32,
    pub message: String,
    /// As one number: 40101 is 4.1.1.
    pub version: Option<u64>,
    /// The fields of the features that there are.
    pub features: Vec<u32>,
}

/// A point in CRIU's work at which its caller may do something; CRIU waits for the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notification {
    /// `pre-dump`, `setup-namespaces` and so on (criu(8), "--action-script").
    pub script: String,
    pub pid: i32,
}

impl Response {
    /// Reads a response; `None` when it is invalid.
    pub fn parse(bytes: &[u8]) -> Option<Response> {
        let mut r = Response::default();
        for entry in Reader(bytes) {
            match entry? {
                (1, Value::Number(n)) => r.kind = n,
                (2, Value::Number(n)) => r.success = n != 0,
                (4, Value::Bytes(b)) => r.restored = Some(number(b, 1)? as i32),
                (5, Value::Bytes(b)) => r.notify = Some(notification(b)?),
                (7, Value::Number(n)) => r.errno = n as i32,
                (8, Value::Bytes(b)) => r.features = features(b)?,
                (9, Value::Bytes(b)) => r.message = String::from_utf8_lossy(b).into_owned(),
                (10, Value::Bytes(b)) => {
                    let sublevel = number(b, 4).unwrap_or(0);
                    let (major, minor) =
                        (number(b, 1)?.saturating_mul(10_000), number(b, 2)?.saturating_mul(100));
                    r.version = Some(major.saturating_add(minor).saturating_add(sublevel));
                }
                _ => {}
            }
        }
        Some(r)
    }
}

fn notification(bytes: &[u8]) -> Option<Notification> {
    let mut n = Notification::default();
    for entry in Reader(bytes) {
        match entry? {
            (1, Value::Bytes(b)) => n.script = String::from_utf8_lossy(b).into_owned(),
            (2, Value::Number(pid)) => n.pid = pid as i32,
            _ => {}
        }
    }
    Some(n)
}

fn features(bytes: &[u8]) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for entry in Reader(bytes) {
        if let (field, Value::Number(1)) = entry? {
            found.push(field);
        }
    }
    Some(found)
}

fn number(bytes: &[u8], field: u32) -> Option<u64> {
    Reader(bytes).flatten().find_map(|(f, v)| match v {
        Value::Number(n) if f == field => Some(n),
        _ => None,
    })
}

#[derive(Debug)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message in their order; ends with `None` where it is damaged.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((field, value))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            // Nothing behind a damaged place can be read.
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_protocol_buffers() {
        let mut options = Message::default();
        options.number(field::IMAGES_DIR_FD, 7);
        options.number(field::EMPTY_NAMESPACES, 0x4000_0000);
        options.flag(field::SHELL_JOB, false);
        options.bytes(field::LOG_FILE, b"dump.log");
        // The output of protoc --encode for the same message.
        let expected = b"\x08\x01\x12\x13\x08\x07\xb0\x02\x80\x80\x80\x80\x04\x52\x08dump.log";
        assert_eq!(request(RequestKind::Dump, &options), expected);
        assert_eq!(version_request(), b"\x08\x0a");
        assert_eq!(acknowledgement(), b"\x08\x06\x18\x01");
        assert_eq!(feature_request(Feature::LazyPages), b"\x08\x09\x2a\x02\x10\x01");
    }

    #[test]
    fn responses_are_read() {
        let version = b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x01\x20\x01";
        let r = Response::parse(version).unwrap();
        assert_eq!((r.success, r.version), (true, Some(40101)));
        let notify = b"\x08\x06\x10\x01\x2a\x0f\x0a\x0apost-rest.\x10\x2a";
        let r = Response::parse(notify);
        assert_eq!(r, None, "a length that leads past the end");
        let notify = b"\x08\x06\x10\x01\x2a\x0e\x0a\x0apost-rest.\x10\x2a";
        let r = Response::parse(notify).unwrap();
        assert_eq!(r.notify, Some(Notification { script: "post-rest.".into(), pid: 42 }));
        let failed = b"\x08\x01\x10\x00\x38\x03\x4a\x03why";
        let r = Response::parse(failed).unwrap();
        assert_eq!((r.kind, r.success, r.errno, r.message.as_str()), (1, false, 3, "why"));
        let features = b"\x08\x09\x10\x01\x42\x04\x08\x01\x10\x00";
        assert_eq!(Response::parse(features).unwrap().features, [1]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Response::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read(n in any::<u64>(), text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut m = Message::default();
            m.number(38, n);
            m.bytes(9, &text);
            let back: Vec<_> = Reader(&m.0).map(Option::unwrap).collect();
            prop_assert!(matches!(back[0], (38, Value::Number(got)) if got == n));
            prop_assert!(matches!(back[1], (9, Value::Bytes(got)) if got == text));
        }
    }
}
