// The allocator of Rust's standard library behind C's names. C does not remember sizes as Rust does; for blocks that are aligned to 8 the
// allocator, which keeps each block's size before it, does not look at the one it is told.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};

const ALIGNMENT: usize = 8;

fn layout(size: usize) -> Layout {
    unsafe { Layout::from_size_align_unchecked(size, ALIGNMENT) }
}

#[no_mangle]
pub unsafe extern "C" fn malloc(size: usize) -> *mut u8 {
    System.alloc(layout(size))
}

#[no_mangle]
pub unsafe extern "C" fn free(block: *mut u8) {
    if !block.is_null() {
        System.dealloc(block, layout(0))
    }
}

#[no_mangle]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut u8 {
    match count.checked_mul(size) {
        Some(bytes) => System.alloc_zeroed(layout(bytes)),
        None => std::ptr::null_mut(),
    }
}

#[no_mangle]
pub unsafe extern "C" fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        malloc(size)
    } else {
        System.realloc(block, layout(0), size)
    }
}

#[no_mangle]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut u8 {
    System.alloc(Layout::from_size_align_unchecked(size, align))
}
