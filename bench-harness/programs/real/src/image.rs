//! image: pictures are decoded from PNG, scaled down, blurred and encoded again on several threads, with the crate image.
//!
//! Imitates a thumbnail service or a photo import: buffers of 1 to 10 MiB that live for milliseconds, taken and freed by
//! all threads at once, between the many small tables of a compressor. One operation is one pixel decoded, scaled and blurred.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;

use bench_subject::program::{Outcome, Work};
use image::imageops::{self, FilterType};
use image::{ImageFormat, RgbImage};

use crate::{Checksum, Hasher, expect, scaled};

/// Different pictures; each is worked on many times.
const PICTURES: u32 = 6;

pub fn prepare(scale: f64) -> Result<Work, String> {
    let sources: Vec<Vec<u8>> = (0..PICTURES).map(draw).collect::<Result<_, _>>()?;
    let jobs = scaled(80, scale, 1);
    Ok(Box::new(move || work(&sources, jobs)))
}

/// A picture of its own size with gradients and edges, as PNG.
fn draw(number: u32) -> Result<Vec<u8>, String> {
    let (width, height) = (640 + 160 * number, 480 + 120 * number);
    let picture = RgbImage::from_fn(width, height, |x, y| {
        let ring = (x * x / 64 + y * y / 64) % (200 + 30 * number);
        image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ring as u8])
    });
    encode(&picture)
}

fn encode(picture: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(|e| e.to_string())?;
    Ok(bytes.into_inner())
}

fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let picture = image::load_from_memory_with_format(bytes, ImageFormat::Png);
    Ok(picture.map_err(|e| e.to_string())?.into_rgb8())
}

fn work(sources: &[Vec<u8>], jobs: usize) -> Result<Outcome, String> {
    let threads = thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    let next = AtomicUsize::new(0);
    let (sum, pixels) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let worker = || {
            loop {
                // Relaxed: the numbers need only be different, and the sum is read after the threads were joined.
                let job = next.fetch_add(1, Relaxed);
                if job >= jobs {
                    return Ok(());
                }
                let picture = decode(&sources[job % sources.len()])?;
                pixels.fetch_add(picture.as_raw().len() as u64 / 3, Relaxed);
                sum.fetch_add(thumbnail(&picture, job)?, Relaxed);
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked")?).map_err(|e: String| e)
    })?;
    Ok(Outcome {
        units: pixels.into_inner(),
        // A sum, so that it does not matter which thread was through first.
        checksum: sum.into_inner(),
    })
}

/// Makes the small picture and answers the checksum of its file.
fn thumbnail(picture: &RgbImage, job: usize) -> Result<u64, String> {
    let (width, height) = (picture.width() / 3, picture.height() / 3);
    let small = imageops::resize(picture, width, height, FilterType::Triangle);
    let soft = imageops::blur(&small, 0.8 + (job % 3) as f32 / 10.0);
    let (before, after) = (brightness(picture), brightness(&soft));
    expect("that a small picture is as bright as the large one", (before - after).abs() < 3.0, true)?;
    let file = encode(&soft)?;
    expect("the picture read back", decode(&file)? == soft, true)?;
    let mut checksum = Checksum::new();
    checksum.write(&file);
    checksum.write_u64(job as u64);
    Ok(checksum.finish() >> 16)
}

fn brightness(picture: &RgbImage) -> f64 {
    let sum: u64 = picture.as_raw().iter().map(|&b| u64::from(b)).sum();
    sum as f64 / picture.as_raw().len() as f64
}
