//! What `.eh_frame` says of a function's caller: the part of DWARF's call frame information that compilers write.
//!
//! An object's table is found by its header, `.eh_frame_hdr`, which is sorted by address. A [`Rule`] says where the caller's
//! stack pointer, frame pointer and program counter are. Forms that no compiler writes give no rule.

use core::slice;

use super::dwarf::{Reader, width};

/// DWARF's numbers of the registers.
#[cfg(target_arch = "x86_64")]
mod register {
    pub(super) const FP: u64 = 6;
    pub(super) const SP: u64 = 7;
    pub(super) const RA: u64 = 16;
}
#[cfg(not(target_arch = "x86_64"))]
mod register {
    pub(super) const FP: u64 = 29;
    pub(super) const SP: u64 = 31;
    pub(super) const RA: u64 = 30;
}
use register::{FP, RA, SP};

/// A register that the others are found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    Sp,
    Fp,
}

/// What the caller's stack pointer is: DWARF's canonical frame address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cfa {
    /// So far from the register.
    At(Base, i32),
    /// What the word there holds: in a signal frame, or in a function that aligns its stack.
    In(Base, i32),
    Unknown,
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Still in the register.
    Same,
    /// In the word so far from the canonical frame address.
    Cfa(i32),
    /// In the word so far from the register.
    At(Base, i32),
    /// Nowhere: for the program counter, there is no caller.
    Nowhere,
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    pub(super) cfa: Cfa,
    pub(super) pc: Place,
    pub(super) fp: Place,
    /// Whether a signal interrupted the caller, so that it made no call.
    pub(super) signal: bool,
}

impl Rule {
    const START: Rule = Rule {
        cfa: Cfa::Unknown,
        pc: Place::Same,
        fp: Place::Same,
        signal: false,
    };

    fn place(&mut self, register: u64) -> Option<&mut Place> {
        match register {
            FP => Some(&mut self.fp),
            RA => Some(&mut self.pc),
            _ => None,
        }
    }
}

/// The rule at `pc`, an address in the object whose `.eh_frame_hdr` is at `header`. `None` if the table has none for it, or
/// `may_read` refuses the address of a part of it.
///
/// # Safety
/// `header` is the address of a loaded object's `.eh_frame_hdr`, and the object stays loaded.
pub(super) unsafe fn rule(
    header: usize,
    pc: usize,
    may_read: &dyn Fn(usize) -> bool,
) -> Option<Rule> {
    let read = |at: usize| may_read(at).then_some(at);
    // SAFETY: the header of four bytes, the address of the table and the number of rows; then that many rows.
    let table = unsafe {
        let head: &[u8; 12] = &*core::ptr::with_exposed_provenance(read(header)?);
        // Every linker writes these encodings: rows of two numbers of four bytes, relative to the header.
        let [1, 0x1b, 0x03, 0x3b, .., a, b, c, d] = *head else {
            return None;
        };
        let rows = u32::from_le_bytes([a, b, c, d]) as usize;
        let first = core::ptr::with_exposed_provenance::<[u8; 8]>(header + 12);
        slice::from_raw_parts(first, rows)
    };
    let at = |[a, b, c, d]: [u8; 4]| {
        header.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]) as isize)
    };
    let start = |&[a, b, c, d, ..]: &[u8; 8]| at([a, b, c, d]);
    let mut refused = false;
    let row = table
        .partition_point(|row| {
            refused = refused || !may_read(row.as_ptr().addr());
            !refused && start(row) <= pc
        })
        .checked_sub(1)?;
    let &[.., e, f, g, h] = table.get(row).filter(|_| !refused)?;
    let address = read(at([e, f, g, h]))?;
    // SAFETY: a row names an entry of `.eh_frame`, and that its common one.
    let (mut fde, cie) = unsafe {
        let mut fde = entry(address)?;
        let back = fde.number(4)? as usize;
        let mut cie = entry(read((address + 4).wrapping_sub(back))?)?;
        cie.number(4)?;
        (fde, cie)
    };
    let common = Common::read(cie)?;
    let from = fde.address(common.pointers)?;
    let len = fde.number(width(common.pointers)?)? as usize;
    let offset = pc.checked_sub(from).filter(|&offset| offset < len)?;
    if common.augmented {
        let skip = fde.uleb()?;
        fde.skip(skip as usize)?;
    }
    let mut rule = Rule::START;
    rule.signal = common.signal;
    common.run(common.code, &mut rule, None, usize::MAX)?;
    let initial = rule;
    common.run(fde, &mut rule, Some(&initial), offset)?;
    Some(rule)
}

/// What follows the length of the entry at `address`.
///
/// # Safety
/// There is an entry of a loaded object's `.eh_frame` there.
unsafe fn entry(address: usize) -> Option<Reader<'static>> {
    // SAFETY: an entry begins with its length, and is as long as that says.
    unsafe {
        let len: [u8; 4] = *core::ptr::with_exposed_provenance(address);
        let len = u32::from_le_bytes(len) as usize;
        // 0 ends the section, and the largest number begins a form for sections above 4 GiB.
        (1..1 << 20).contains(&len).then(|| Reader {
            bytes: slice::from_raw_parts(core::ptr::with_exposed_provenance(address + 4), len),
        })
    }
}

/// What the functions of one entry of the common kind (CIE) share.
#[derive(Clone, Copy)]
struct Common {
    code_align: u64,
    data_align: i64,
    pointers: u8,
    augmented: bool,
    signal: bool,
    code: Reader<'static>,
}

impl Common {
    fn read(mut from: Reader<'static>) -> Option<Common> {
        let version = from.byte()?;
        let mut letters = from;
        while from.byte()? != 0 {}
        let mut common = Common {
            code_align: from.uleb()?,
            data_align: from.sleb()?,
            pointers: 0,
            augmented: false,
            signal: false,
            code: from,
        };
        let _return_register = match version {
            1 => u64::from(from.byte()?),
            _ => from.uleb()?,
        };
        loop {
            match letters.byte()? {
                0 => break,
                b'z' => {
                    let len = from.uleb()? as usize;
                    common.code = from;
                    common.code.skip(len)?;
                    common.augmented = true;
                }
                b'R' => common.pointers = from.byte()?,
                b'P' => {
                    let encoding = from.byte()?;
                    from.skip(width(encoding)?)?;
                }
                b'L' => _ = from.byte()?,
                b'S' => common.signal = true,
                // The key that return addresses are signed with.
                b'B' => {}
                _ => return None,
            }
        }
        if !common.augmented {
            common.code = from;
        }
        Some(common)
    }

    /// Runs the instructions that hold at `offset` in the function. `initial` is what the common ones led to.
    fn run(
        &self,
        mut code: Reader<'_>,
        rule: &mut Rule,
        initial: Option<&Rule>,
        offset: usize,
    ) -> Option<()> {
        let mut saved = [Rule::START; 6];
        let mut depth = 0;
        let mut at = 0_u64;
        while let Some(op) = code.byte() {
            let low = u64::from(op & 0x3f);
            match (op >> 6, op & 0x3f) {
                (1, _) => at = at.saturating_add(self.advance(low)),
                (2, _) => self.at_cfa(rule, low, code.uleb()? as i64)?,
                (3, _) => restore(rule, low, initial?),
                (_, 0x00) => {}
                (_, 0x02) => at = at.saturating_add(self.advance(code.number(1)?)),
                (_, 0x03) => at = at.saturating_add(self.advance(code.number(2)?)),
                (_, 0x04) => at = at.saturating_add(self.advance(code.number(4)?)),
                (_, 0x05) => self.at_cfa(rule, code.uleb()?, code.uleb()? as i64)?,
                (_, 0x06) => restore(rule, code.uleb()?, initial?),
                (_, 0x07) => set(rule, code.uleb()?, Place::Nowhere),
                (_, 0x08) => set(rule, code.uleb()?, Place::Same),
                (_, 0x09) => {
                    set(rule, code.uleb()?, Place::Unknown);
                    code.uleb()?;
                }
                (_, 0x0a) => {
                    *saved.get_mut(depth)? = *rule;
                    depth += 1;
                }
                (_, 0x0b) => {
                    depth = depth.checked_sub(1)?;
                    *rule = *saved.get(depth)?;
                }
                (_, 0x0c) => rule.cfa = cfa(code.uleb()?, code.uleb()? as i64),
                (_, 0x0d) => {
                    let register = code.uleb()?;
                    rule.cfa = match rule.cfa {
                        Cfa::At(_, offset) => cfa(register, i64::from(offset)),
                        Cfa::In(..) | Cfa::Unknown => Cfa::Unknown,
                    };
                }
                (_, 0x0e) => rule.cfa = moved(rule.cfa, code.uleb()? as i64),
                (_, 0x0f) => {
                    rule.cfa = word(code.block()?, true)
                        .map_or(Cfa::Unknown, |(base, by)| Cfa::In(base, by))
                }
                (_, 0x10) => {
                    let register = code.uleb()?;
                    let place = word(code.block()?, false)
                        .map_or(Place::Unknown, |(base, by)| Place::At(base, by));
                    set(rule, register, place);
                }
                (_, 0x11) => self.at_cfa(rule, code.uleb()?, code.sleb()?)?,
                (_, 0x12) => {
                    rule.cfa = cfa(code.uleb()?, code.sleb()?.wrapping_mul(self.data_align))
                }
                (_, 0x13) => rule.cfa = moved(rule.cfa, code.sleb()?.wrapping_mul(self.data_align)),
                (_, 0x14 | 0x15) => {
                    set(rule, code.uleb()?, Place::Unknown);
                    code.uleb()?;
                }
                (_, 0x16) => {
                    set(rule, code.uleb()?, Place::Unknown);
                    code.block()?;
                }
                // Whether the return address is signed: see `stack::address`.
                (_, 0x2d) => {}
                (_, 0x2e) => _ = code.uleb()?,
                _ => return None,
            }
            // What follows holds further on in the function.
            if at > offset as u64 {
                return Some(());
            }
        }
        Some(())
    }

    /// At most 2^48 each, so that a sum of them does not overflow.
    fn advance(&self, factored: u64) -> u64 {
        factored.saturating_mul(self.code_align.min(1 << 16))
    }

    fn at_cfa(&self, rule: &mut Rule, register: u64, factored: i64) -> Option<()> {
        let offset = i32::try_from(factored.checked_mul(self.data_align)?).ok()?;
        set(rule, register, Place::Cfa(offset));
        Some(())
    }
}

fn set(rule: &mut Rule, register: u64, place: Place) {
    if let Some(of) = rule.place(register) {
        *of = place;
    }
}

fn restore(rule: &mut Rule, register: u64, initial: &Rule) {
    let mut initial = *initial;
    if let Some(place) = initial.place(register) {
        set(rule, register, *place);
    }
}

fn base(register: u64) -> Option<Base> {
    match register {
        SP => Some(Base::Sp),
        FP => Some(Base::Fp),
        _ => None,
    }
}

fn cfa(register: u64, offset: i64) -> Cfa {
    match (base(register), i32::try_from(offset)) {
        (Some(base), Ok(offset)) => Cfa::At(base, offset),
        _ => Cfa::Unknown,
    }
}

fn moved(of: Cfa, offset: i64) -> Cfa {
    match (of, i32::try_from(offset)) {
        (Cfa::At(base, _), Ok(offset)) => Cfa::At(base, offset),
        _ => Cfa::Unknown,
    }
}

/// Of an expression that says "so far from the register", with the word there read or not: the register and how far.
fn word(mut code: Reader<'_>, read: bool) -> Option<(Base, i32)> {
    let base = base(u64::from(code.byte()?.checked_sub(0x70)?))?;
    let offset = i32::try_from(code.sleb()?).ok()?;
    let rest: &[u8] = if read { &[0x06] } else { &[] };
    (code.bytes == rest).then_some((base, offset))
}

#[cfg(all(test, target_arch = "x86_64"))]
#[path = "frame_tests.rs"]
mod tests;
