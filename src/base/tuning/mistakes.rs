//! Reports of mistakes, and the calls that they tell of.

/// Reports.
pub(crate) mod reports {
    /// Most calls of a stack that are told. Guess.
    pub(crate) const CALLS: usize = 48;
    /// Calls kept of the allocation and the free of a guarded block or a large one. Guess.
    pub(crate) const WATCHED_CALLS: usize = 16;
    /// The same of a checked block. Guess: of those in a program that contains this crate, five to ten are its own.
    pub(crate) const CHECKED_CALLS: usize = 12;
    /// Milliseconds for which a reader may leave no room for a line before it gets no further ones. Guess.
    pub(crate) const READER_MS: u64 = 1000;
    /// Milliseconds for which a second thread that faults, or has something to report, leaves the first one to end the process.
    /// Guess.
    pub(crate) const FIRST_MS: u64 = 5000;
}

/// The table of the places that checked blocks were allocated and freed at.
pub(crate) mod sites {
    /// Sites of a chunk, and most chunks; if one slab in N is checked, one chunk. A chunk is 26 KiB. Guesses.
    pub(crate) const CHUNK: usize = 256;
    pub(crate) const CHUNKS: usize = 128;
    /// Chains of the table. Guess.
    pub(crate) const CHAINS: usize = 1024;
}

/// Walks of a stack: what is kept of earlier ones, and how far a search goes.
pub(crate) mod walks {
    /// Walks that are kept, in the order in which they were made, so that few take little memory. A program has some hundred calls
    /// that lead to an allocation or a free. Guess.
    pub(crate) const KEPT: usize = 1024;
    /// Walks from the same place and depth of the stack share a row. Of 32,000 calls `git log -p` makes 625 walks anew, and between
    /// 690 and 1,730 with 256 rows, by what shares one. A compiler makes most of its walks anew: 198,000 of 272,000, and still
    /// 77,000 with 32 times as many kept.
    pub(crate) const ROWS: usize = 1024;
    pub(crate) const WAYS: usize = 8;
    /// Most words of the stack that a kept walk reads, a multiple of 4. Guess.
    pub(crate) const WORDS: usize = 40;
    /// Rows of the table of steps. A compiler that allocates from ever new places has some thousand addresses on its stacks. Guess.
    pub(crate) const STEP_ROWS: usize = 8192;
    /// Rows of the table of rules, and rules of a row. A program has some hundred calls that lead to an allocation. Of so many, two
    /// often share a row, five hardly ever. Guesses.
    pub(crate) const RULE_ROWS: usize = 512;
    pub(crate) const RULE_WAYS: usize = 4;
    /// Most parts of unwind tables, of 64 KiB, that are read unless all may be; and so many may be read anyway of the object that
    /// contains this code: in a program with this crate the calls begin in it. Guesses.
    pub(crate) const PARTS: usize = 64;
    pub(crate) const OWN_PARTS: usize = 3;
    /// Words of the stack in which the return address of a function is searched: a kilobyte and half of one. Larger frames are rare.
    /// Guess.
    pub(crate) const SEARCHED: usize = 192;
    /// Most calls that a search adds. Words of earlier calls make the same call look different, and so many are kept. Guess.
    pub(crate) const SEARCHED_CALLS: usize = 6;
    /// Addresses that searches have met of which the answer is kept: each costs a system call, and samples come from a few places of
    /// a program. Guess.
    pub(crate) const MET: usize = 64;
}
