//! Returns the allocator's free memory.

/// Has mimalloc, which is the program's allocator (`main.rs`), return to the system what the calling thread's heap has free. mimalloc does so by itself only as a
/// thread goes on allocating, and a thread that has nothing to do keeps what it had.
#[expect(unsafe_code, reason = "a call into C that has no conditions and takes no pointer; tests/memory.rs covers it")]
pub(crate) fn release() {
    // SAFETY: mi_collect may be called by any thread at any time; where mimalloc is not the allocator, as in tests, its heaps are empty.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
