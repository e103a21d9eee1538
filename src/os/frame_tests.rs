use super::*;
use std::boxed::Box;
use std::vec::Vec;

/// The rule at each offset in a function of 100 bytes with these instructions, of the kind that compilers write for x86_64.
fn rules(common: &[u8], code: &[u8], letters: &[u8], at: &[usize]) -> Vec<Option<Rule>> {
    let sealed = |body: &[u8]| {
        let mut entry = u32::to_le_bytes(body.len() as u32).to_vec();
        entry.extend_from_slice(body);
        entry
    };
    // The header with one row, the common entry, the function's.
    let mut image = std::vec![
        1, 0x1b, 0x03, 0x3b, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    ];
    let common_at = image.len();
    let mut cie = std::vec![0, 0, 0, 0, 1];
    cie.extend_from_slice(letters);
    // Factors 1 and -8, register 16, one byte of augmentation: pointers of 4 bytes, relative.
    cie.extend_from_slice(&[0, 1, 0x78, 16, 1, 0x1b]);
    cie.extend_from_slice(common);
    image.extend(sealed(&cie));
    let entry_at = image.len();
    let mut fde = u32::to_le_bytes((entry_at + 4 - common_at) as u32).to_vec();
    // The function begins at its own entry, as nothing is read there but the numbers.
    fde.extend_from_slice(&(-8_i32).to_le_bytes());
    fde.extend_from_slice(&[100, 0, 0, 0, 0]);
    fde.extend_from_slice(code);
    image.extend(sealed(&fde));
    image[12..16].copy_from_slice(&(entry_at as u32).to_le_bytes());
    image[16..20].copy_from_slice(&(entry_at as u32).to_le_bytes());
    let image: &'static [u8] = Box::leak(image.into_boxed_slice());
    let header = image.as_ptr().expose_provenance();
    // SAFETY: laid out as such a table.
    let of = |&offset: &usize| unsafe { rule(header, header + entry_at + offset, &|_| true) };
    at.iter().map(of).collect()
}

/// At the entry of a function the return address is on top of the stack.
const ENTRY: [u8; 5] = [0x0c, 7, 8, 0x90, 1];

fn plain(cfa: Cfa, fp: Place) -> Option<Rule> {
    Some(Rule {
        cfa,
        pc: Place::Cfa(-8),
        fp,
        signal: false,
    })
}

#[test]
fn a_prologue_with_a_frame_pointer_is_followed_step_by_step() {
    // push rbp; mov rbp, rsp; …; after a return in between, as before it.
    let code = [
        0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6, 0x0a, 0x02, 40, 0x0c, 7, 8, 0xc6, 0x41, 0x0b, 0, 0,
    ];
    let found = rules(&ENTRY, &code, b"zR", &[0, 1, 3, 4, 43, 44, 45, 99, 100]);
    let (sp, fp) = (|by| Cfa::At(Base::Sp, by), Cfa::At(Base::Fp, 16));
    let saved = Place::Cfa(-16);
    assert_eq!(
        found,
        [
            plain(sp(8), Place::Same),
            plain(sp(16), saved),
            plain(sp(16), saved),
            plain(fp, saved),
            plain(fp, saved),
            plain(sp(8), Place::Same),
            plain(fp, saved),
            plain(fp, saved),
            None
        ]
    );
}

#[test]
fn a_signal_frame_and_an_aligned_stack_are_read_through_a_word() {
    // As glibc writes them: the stack pointer 160 bytes up, the frame pointer 120, the program counter 168.
    let signal = [
        0x0f, 4, 0x77, 0xa0, 1, 0x06, 0x10, 6, 3, 0x77, 0xf8, 0, 0x10, 16, 3, 0x77, 0xa8, 1,
    ];
    let found = rules(&[], &signal, b"zRS", &[0]);
    let expected = Rule {
        cfa: Cfa::In(Base::Sp, 160),
        pc: Place::At(Base::Sp, 168),
        fp: Place::At(Base::Sp, 120),
        signal: true,
    };
    assert_eq!(found, [Some(expected)]);
    // As gcc writes a function that aligns its stack.
    let aligned = [
        0x45, 0x0c, 10, 0, 0x49, 0x10, 6, 2, 0x76, 0, 0x44, 0x0f, 3, 0x76, 0x78, 0x06,
    ];
    let found = rules(&ENTRY, &aligned, b"zR", &[5, 20]);
    assert_eq!(
        found,
        [
            plain(Cfa::Unknown, Place::Same),
            plain(Cfa::In(Base::Fp, -8), Place::At(Base::Fp, 0))
        ]
    );
}

#[test]
fn the_first_function_has_no_caller_and_what_is_not_understood_no_rule() {
    let found = rules(&ENTRY, &[0x07, 16], b"zR", &[0]);
    assert_eq!(found[0].map(|rule| rule.pc), Some(Place::Nowhere));
    for wrong in [&[0x3f][..], &[0x0c, 7], &[0x0b], &[0x0f, 200], &[0x0a; 7]] {
        assert_eq!(rules(&ENTRY, wrong, b"zR", &[0]), [None], "{wrong:x?}");
    }
    assert_eq!(rules(&ENTRY, &[], b"zX", &[0]), [None]);
    assert_eq!(
        rules(&ENTRY, &[0x2e, 16, 0x16, 3, 1, 0x96], b"zR", &[0]),
        [plain(Cfa::At(Base::Sp, 8), Place::Same)]
    );
}
