//! The architectures of the specification: their identity in `struct seccomp_data` and the shape of their
//! system-call arguments and numbers.

use super::table;

/// An architecture: the `SCMP_ARCH_*` names of config-linux.md, "Seccomp", without the prefix.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Ppc,
    Ppc64,
    Ppc64le,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

/// The columns of the table of system calls.
#[derive(Clone, Copy)]
enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
    Riscv64,
    Loongarch64,
    Ppc64,
    Ppc,
    S390x,
    S390,
    Mips64,
    Mips64n32,
    Mips,
    Parisc64,
    Parisc,
    M68k,
    Sh,
}

/// Properties of an architecture.
#[derive(Clone, Copy)]
struct Traits {
    name: &'static str,
    /// `AUDIT_ARCH_*`, the value of `seccomp_data.arch` (linux/audit.h).
    token: u32,
    abi: Abi,
    /// Architectures with the same family run on one kernel.
    family: u8,
}

/// By the number of the architecture.
static TRAITS: [Traits; Arch::ALL.len()] = {
    let mut all = [Arch::NATIVE.its_traits(); Arch::ALL.len()];
    let mut i = 0;
    while i < all.len() {
        all[Arch::ALL[i] as usize] = Arch::ALL[i].its_traits();
        i += 1;
    }
    all
};

/// The bit that marks a system call of x32 (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 1 << 30;
/// The first of ARM's private system calls (asm/unistd.h, `__ARM_NR_BASE`).
pub(super) const ARM_PRIVATE: u32 = 0xf_0000;
/// Where the table keeps ARM's private system calls.
const ARM_PRIVATE_ROWS: u16 = 896;

const fn native() -> Arch {
    let little = cfg!(target_endian = "little");
    match std::env::consts::ARCH.as_bytes() {
        b"x86_64" if cfg!(target_pointer_width = "32") => Arch::X32,
        b"x86_64" => Arch::X86_64,
        b"x86" => Arch::X86,
        b"aarch64" => Arch::Aarch64,
        b"arm" => Arch::Arm,
        b"mips" if little => Arch::Mipsel,
        b"mips" => Arch::Mips,
        b"mips64" if little => Arch::Mipsel64,
        b"mips64" => Arch::Mips64,
        b"powerpc" => Arch::Ppc,
        b"powerpc64" if little => Arch::Ppc64le,
        b"powerpc64" => Arch::Ppc64,
        b"riscv64" => Arch::Riscv64,
        b"s390x" => Arch::S390x,
        b"loongarch64" => Arch::Loongarch64,
        b"m68k" => Arch::M68k,
        _ => panic!("seccomp is not known on this architecture"),
    }
}

const WIDE: u32 = 0x8000_0000;
const LITTLE: u32 = 0x4000_0000;
const N32: u32 = 0x2000_0000;

impl Arch {
    /// Every architecture, in the order of the specification.
    pub const ALL: [Arch; 23] = [
        Arch::X86,
        Arch::X86_64,
        Arch::X32,
        Arch::Arm,
        Arch::Aarch64,
        Arch::Mips,
        Arch::Mips64,
        Arch::Mips64n32,
        Arch::Mipsel,
        Arch::Mipsel64,
        Arch::Mipsel64n32,
        Arch::Ppc,
        Arch::Ppc64,
        Arch::Ppc64le,
        Arch::S390,
        Arch::S390x,
        Arch::Parisc,
        Arch::Parisc64,
        Arch::Riscv64,
        Arch::Loongarch64,
        Arch::M68k,
        Arch::Sh,
        Arch::Sheb,
    ];

    /// The architecture this program is built for.
    pub const NATIVE: Arch = native();

    /// The architecture with the name `SCMP_ARCH_*`.
    pub fn from_name(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| a.name() == name)
    }

    /// The name in the specification, `SCMP_ARCH_*`.
    pub fn name(self) -> &'static str {
        self.traits().name
    }

    /// `AUDIT_ARCH_*`, the value of `seccomp_data.arch`; x32 shares it with x86_64.
    pub fn token(self) -> u32 {
        self.traits().token
    }

    /// Whether programs of both architectures run on one kernel.
    pub(super) fn same_kernel(self, other: Arch) -> bool {
        self.traits().family == other.traits().family
    }

    /// Whether arguments are compared in 64 bits. x32 passes them in 64-bit registers, and is compared in 32
    /// bits as libseccomp does.
    pub(super) fn wide(self) -> bool {
        self.token() & WIDE != 0 && self.token() & N32 == 0 && self != Arch::X32
    }

    /// Whether the low word of an argument follows the high one in `seccomp_data.args`.
    pub(super) fn big_endian(self) -> bool {
        self.token() & LITTLE == 0
    }

    /// Whether sockets and System V IPC are also reached through `socketcall` and `ipc`.
    pub(super) fn multiplexes(self) -> bool {
        match self.traits().abi {
            Abi::X86 | Abi::Ppc | Abi::Ppc64 | Abi::S390 | Abi::S390x | Abi::Mips | Abi::M68k | Abi::Sh => {
                true
            }
            Abi::X86_64 | Abi::X32 | Abi::Aarch64 | Abi::Arm | Abi::Riscv64 | Abi::Loongarch64 => false,
            Abi::Mips64 | Abi::Mips64n32 | Abi::Parisc64 | Abi::Parisc => false,
        }
    }

    /// `ENOSYS` as the kernel of this architecture numbers it (asm/errno.h).
    pub(super) fn enosys(self) -> u32 {
        match self.traits().abi {
            Abi::Mips | Abi::Mips64 | Abi::Mips64n32 => 89,
            Abi::Parisc | Abi::Parisc64 => 251,
            _ => 38,
        }
    }

    /// The column of this architecture in the table of system calls.
    pub(super) fn column(self) -> usize {
        self.traits().abi as usize
    }

    /// The number that the kernel sees for a number of the table.
    pub(super) fn number(self, row: u16) -> u32 {
        debug_assert!(row != table::X);
        match self {
            Arch::Arm if row >= ARM_PRIVATE_ROWS => ARM_PRIVATE + u32::from(row - ARM_PRIVATE_ROWS),
            _ => self.base() + u32::from(row),
        }
    }

    /// The first system-call number of the ABI.
    pub(super) fn base(self) -> u32 {
        match self.traits().abi {
            Abi::X32 => X32_BIT,
            Abi::Mips => 4000,
            Abi::Mips64 => 5000,
            Abi::Mips64n32 => 6000,
            _ => 0,
        }
    }

    /// Whether a number of the table lies apart from the sequence in which the kernel adds system calls, so
    /// that it says nothing about how new it is: ARM's private calls, and the calls of x32 that differ from
    /// x86_64's.
    pub(super) fn out_of_sequence(self, row: u16) -> bool {
        match self {
            Arch::Arm => row >= ARM_PRIVATE_ROWS,
            Arch::X32 => row >= 512,
            _ => false,
        }
    }

    fn traits(self) -> &'static Traits {
        &TRAITS[self as usize]
    }

    const fn its_traits(self) -> Traits {
        let (name, token, abi, family) = match self {
            Arch::X86 => ("SCMP_ARCH_X86", 3 | LITTLE, Abi::X86, 0),
            Arch::X86_64 => ("SCMP_ARCH_X86_64", 62 | WIDE | LITTLE, Abi::X86_64, 0),
            Arch::X32 => ("SCMP_ARCH_X32", 62 | WIDE | LITTLE, Abi::X32, 0),
            Arch::Arm => ("SCMP_ARCH_ARM", 40 | LITTLE, Abi::Arm, 1),
            Arch::Aarch64 => ("SCMP_ARCH_AARCH64", 183 | WIDE | LITTLE, Abi::Aarch64, 1),
            Arch::Mips => ("SCMP_ARCH_MIPS", 8, Abi::Mips, 2),
            Arch::Mips64 => ("SCMP_ARCH_MIPS64", 8 | WIDE, Abi::Mips64, 2),
            Arch::Mips64n32 => ("SCMP_ARCH_MIPS64N32", 8 | WIDE | N32, Abi::Mips64n32, 2),
            Arch::Mipsel => ("SCMP_ARCH_MIPSEL", 8 | LITTLE, Abi::Mips, 3),
            Arch::Mipsel64 => ("SCMP_ARCH_MIPSEL64", 8 | WIDE | LITTLE, Abi::Mips64, 3),
            Arch::Mipsel64n32 => ("SCMP_ARCH_MIPSEL64N32", 8 | WIDE | LITTLE | N32, Abi::Mips64n32, 3),
            Arch::Ppc => ("SCMP_ARCH_PPC", 20, Abi::Ppc, 4),
            Arch::Ppc64 => ("SCMP_ARCH_PPC64", 21 | WIDE, Abi::Ppc64, 4),
            Arch::Ppc64le => ("SCMP_ARCH_PPC64LE", 21 | WIDE | LITTLE, Abi::Ppc64, 5),
            Arch::S390 => ("SCMP_ARCH_S390", 22, Abi::S390, 6),
            Arch::S390x => ("SCMP_ARCH_S390X", 22 | WIDE, Abi::S390x, 6),
            Arch::Parisc => ("SCMP_ARCH_PARISC", 15, Abi::Parisc, 7),
            Arch::Parisc64 => ("SCMP_ARCH_PARISC64", 15 | WIDE, Abi::Parisc64, 7),
            Arch::Riscv64 => ("SCMP_ARCH_RISCV64", 243 | WIDE | LITTLE, Abi::Riscv64, 8),
            Arch::Loongarch64 => ("SCMP_ARCH_LOONGARCH64", 258 | WIDE | LITTLE, Abi::Loongarch64, 9),
            Arch::M68k => ("SCMP_ARCH_M68K", 4, Abi::M68k, 10),
            Arch::Sh => ("SCMP_ARCH_SH", 42 | LITTLE, Abi::Sh, 11),
            Arch::Sheb => ("SCMP_ARCH_SHEB", 42, Abi::Sh, 12),
        };
        Traits { name, token, abi, family }
    }
}
