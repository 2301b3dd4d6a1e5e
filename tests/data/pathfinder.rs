//! Pathfinder: archives written here byte by byte, and drawn pictures held against a trace, a search and a renderer of this file's own.

use pspikessm::data::pathfinder::{self, Rules};
use pspikessm::data::{Dataset, Faults, Splits};
use pspikessm::error::{Error, Result};
use pspikessm::internal::{Bar, Scene};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

// ---- An archive ----

/// The values of picture `i`: no two pictures have the same first one.
fn bytes(i: usize, side: usize) -> Vec<u8> {
    (0..side * side).map(|pixel| (i + pixel * 7 % 256) as u8).collect()
}

fn write_png(path: &Path, side: usize, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), side as u32, side as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

/// A row as the official files have it.
fn row(folder: usize, sample: usize, label: &str) -> String {
    format!("imgs/{folder} sample_{sample}.png {sample} {label} 1.0 14 4 2 0.5 1 1")
}

fn write_metadata(set: &Path, folder: usize, content: impl AsRef<[u8]>) -> PathBuf {
    fs::create_dir_all(set.join("metadata")).unwrap();
    let path = set.join("metadata").join(format!("{folder}.npy"));
    fs::write(&path, content).unwrap();
    path
}

fn set_in(dir: &Path, size: usize) -> PathBuf {
    dir.join(format!("pathfinder{size}")).join("curv_contour_length_14")
}

/// The label of picture `i` of [`archive`].
fn label(i: usize) -> usize {
    usize::from(i.is_multiple_of(3))
}

/// Pictures 0 to 29 of side 32, 10 in each of the folders 2, 10 and 11; of the files a sorted listing has 2.npy last.
fn archive() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let set = set_in(dir.path(), 32);
    for (at, folder) in [2, 10, 11].into_iter().enumerate() {
        let mut lines = String::new();
        for sample in 0..10 {
            let i = 10 * at + sample;
            write_png(&set.join(format!("imgs/{folder}/sample_{sample}.png")), 32, &bytes(i, 32));
            lines += &(row(folder, sample, &label(i).to_string()) + "\n");
        }
        write_metadata(&set, folder, lines);
    }
    dir
}

fn picture(dir: &TempDir, name: &str) -> PathBuf {
    set_in(dir.path(), 32).join("imgs").join(name)
}

fn load(dir: &TempDir) -> Result<Splits> {
    pathfinder::load(dir.path(), 32, &Faults::refused())
}

fn parts(splits: &Splits) -> [&Dataset; 3] {
    [&splits.train, &splits.val, &splits.test]
}

/// Every sample on its own: its values and its label.
fn samples(set: &Dataset) -> Vec<Result<(Vec<f32>, usize)>> {
    let read = |index| set.batch(&[index]).map(|batch| (batch.values().unwrap().to_vec(), batch.labels[0]));
    (0..set.len()).map(read).collect()
}

/// The numbers and labels of all pictures of [`archive`] by their first value, sorted.
fn found(splits: &Splits) -> Vec<(usize, usize)> {
    let samples = parts(splits).into_iter().flat_map(samples).map(Result::unwrap);
    let mut found: Vec<_> = samples.map(|(values, label)| ((values[0] * 255.0).round() as usize, label)).collect();
    found.sort_unstable();
    found
}

fn all() -> Vec<(usize, usize)> {
    (0..30).map(|i| (i, label(i))).collect()
}

fn help<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn pictures_are_read_as_their_files_have_them() {
    let dir = archive();
    let splits = load(&dir).unwrap();
    assert_eq!(parts(&splits).map(Dataset::len), [24, 3, 3]);
    assert_eq!(found(&splits), all());
    for part in parts(&splits) {
        assert!(part.is_remote());
        assert_eq!((part.classes(), part.d_input(), part.longest()), (2, Some(1), 1024));
        for sample in samples(part) {
            let (values, label_read) = sample.unwrap();
            let i = (values[0] * 255.0).round() as usize;
            let wanted: Vec<f32> = bytes(i, 32).into_iter().map(|byte| f32::from(byte) / 255.0).collect();
            assert_eq!((values, label_read), (wanted, label(i)));
        }
    }
    // A shuffle, and always the same one.
    assert_ne!(splits.train.labels(), &(0..24).map(label).collect::<Vec<_>>()[..]);
    let again = load(&dir).unwrap();
    for (one, other) in parts(&splits).into_iter().zip(parts(&again)) {
        let read = |set: &Dataset| samples(set).into_iter().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(read(one), read(other));
    }
}

#[test]
fn folders_count_by_their_numbers() {
    // The same pictures in folders that sort alike as numbers and as text: the same shuffle gives the same parts.
    let (dir, renamed) = (archive(), tempfile::tempdir().unwrap());
    let set = set_in(renamed.path(), 32);
    for (from, to) in [(2, 1), (10, 2), (11, 3)] {
        let rows = fs::read_to_string(set_in(dir.path(), 32).join(format!("metadata/{from}.npy"))).unwrap();
        write_metadata(&set, to, rows.replace(&format!("imgs/{from} "), &format!("imgs/{to} ")));
        fs::create_dir_all(set.join("imgs")).unwrap();
        fs::rename(picture(&dir, &from.to_string()), set.join(format!("imgs/{to}"))).unwrap();
    }
    let original = archive();
    let (splits, renamed) = (load(&original).unwrap(), load(&renamed).unwrap());
    let first = |splits: &Splits| samples(&splits.val).into_iter().map(|sample| sample.unwrap().0[0]).collect::<Vec<_>>();
    assert_eq!(first(&splits), first(&renamed));
}

#[test]
fn the_set_is_found_where_the_archive_may_lie() {
    let dir = archive();
    assert_eq!(found(&pathfinder::load(dir.path().join("pathfinder32"), 32, &Faults::refused()).unwrap()), all());
    for place in ["lra_release", "lra_release/lra_release"] {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join(place)).unwrap();
        let inner = archive();
        fs::rename(inner.path().join("pathfinder32"), outer.path().join(place).join("pathfinder32")).unwrap();
        assert_eq!(found(&load(&outer).unwrap()), all());
    }
}

#[test]
fn what_is_missing_says_where_it_should_be() {
    let dir = archive();
    let message = help(pathfinder::load(dir.path(), 128, &Faults::refused()));
    assert!(message.contains(&dir.path().display().to_string()), "{message}");
    assert!(message.contains("holds pathfinder128") && message.contains("imgs and metadata"), "{message}");
    fs::remove_dir_all(set_in(dir.path(), 32).join("metadata")).unwrap();
    assert!(matches!(load(&dir), Err(Error::Value { .. })));
    // A folder without any row.
    fs::create_dir(set_in(dir.path(), 32).join("metadata")).unwrap();
    let message = help(load(&dir));
    assert!(message.contains("lists no picture"), "{message}");
    write_metadata(&set_in(dir.path(), 32), 0, "");
    assert!(help(load(&dir)).contains("lists no picture"));
    // Too few for a tenth.
    write_metadata(&set_in(dir.path(), 32), 0, [row(2, 0, "0"), row(2, 1, "1")].join("\n"));
    assert!(matches!(load(&dir), Err(Error::Config { .. })));
}

#[test]
fn the_picture_known_to_be_empty_is_left_out_of_the_32_set_only() {
    let dir = tempfile::tempdir().unwrap();
    let rows: Vec<String> = (160..180).map(|sample| row(0, sample, "1")).collect();
    for size in [32, 128] {
        write_metadata(&set_in(dir.path(), size), 0, rows.join("\n"));
    }
    let len = |size, faults: &Faults| parts(&pathfinder::load(dir.path(), size, faults).unwrap()).map(Dataset::len).iter().sum::<usize>();
    let faults = Faults::skipped();
    assert_eq!((len(32, &Faults::refused()), len(32, &faults), len(128, &faults)), (19, 19, 20));
    assert_eq!(faults.count(), 0);
    // In another folder the name means nothing.
    write_metadata(&set_in(dir.path(), 32), 0, rows.join("\n").replace("imgs/0", "imgs/1"));
    assert_eq!(len(32, &faults), 20);
}

// ---- Its faults ----

/// Makes picture 13 bad, and checks what reading it says and what skipping it does.
fn check_bad_picture(spoil: impl Fn(&Path), wanted: &str) {
    let dir = archive();
    let path = picture(&dir, "10/sample_3.png");
    spoil(&path);
    // The list is read without it, and every other picture is.
    let splits = load(&dir).unwrap();
    let errors: Vec<Error> = parts(&splits).into_iter().flat_map(samples).filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let message = errors[0].to_string();
    assert!(message.contains(&path.display().to_string()) && message.contains(wanted), "{message}");

    let faults = Faults::skipped();
    let splits = pathfinder::load(dir.path(), 32, &faults).unwrap();
    let all = |set: &Dataset| set.batch(&(0..set.len()).collect::<Vec<_>>()).unwrap();
    let read: usize = parts(&splits).into_iter().map(|part| all(part).batch).sum();
    assert_eq!((read, faults.count(), faults.reports(9)), (29, 1, vec![message]));
}

#[test]
fn empty_pictures_are_refused_or_skipped() {
    check_bad_picture(|path| fs::write(path, "").unwrap(), "empty");
}

#[test]
fn cut_pictures_are_refused_or_skipped() {
    check_bad_picture(
        |path| {
            let whole = fs::read(path).unwrap();
            fs::write(path, &whole[..whole.len() / 2]).unwrap();
        },
        "no whole PNG",
    );
}

#[test]
fn pictures_of_another_size_are_refused_or_skipped() {
    check_bad_picture(|path| write_png(path, 31, &bytes(13, 31)), "31");
}

#[test]
fn missing_pictures_are_refused_or_skipped() {
    check_bad_picture(|path| fs::remove_file(path).unwrap(), "could not read");
}

#[test]
fn malformed_rows_are_refused_by_line_and_column_or_skipped() {
    let cases = [
        ("imgs/0 sample_3.png 3", 22, "3 fields"),
        ("imgs/0", 7, "1 fields"),
        ("", 1, "0 fields"),
        ("imgs/0 sample_3.png 3 2 1.0", 23, "\"2\""),
        ("imgs/0 sample_3.png 3 -1 1.0", 23, "\"-1\""),
        ("imgs/é  sample_3.png 3 1.0 1.0", 24, "\"1.0\""),
        ("imgs/0 sample_3.png 3 yes", 23, "\"yes\""),
    ];
    for (bad, column, wanted) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut rows: Vec<String> = (0..12).map(|sample| row(2, sample, "1")).collect();
        rows[4] = bad.into();
        let path = write_metadata(&set_in(dir.path(), 32), 2, rows.join("\r\n"));
        match load(&dir) {
            Err(Error::Data { path: at, line, column: found, help }) => {
                assert_eq!((at, line, found), (path, 5, column), "{bad:?}: {help}");
                assert!(help.contains(wanted), "{help}");
            }
            other => panic!("{bad:?}: {other:?}"),
        }
        let faults = Faults::skipped();
        let splits = pathfinder::load(dir.path(), 32, &faults).unwrap();
        assert_eq!((parts(&splits).map(Dataset::len), faults.count()), ([9, 1, 1], 1));
    }
}

#[test]
fn metadata_that_are_no_text_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = write_metadata(&set_in(dir.path(), 32), 0, b"imgs/0 \xff");
    match pathfinder::load(dir.path(), 32, &Faults::skipped()) {
        Err(Error::Data { path: at, line, column, .. }) => assert_eq!((at, line, column), (path, 1, 8)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hidden_files_marks_and_blank_ends_are_passed_over() {
    let wanted = found(&load(&archive()).unwrap());
    let dir = archive();
    let metadata = set_in(dir.path(), 32).join("metadata");
    fs::write(metadata.join("._2.npy"), b"\0\x05\x16\x07").unwrap();
    fs::write(metadata.join(".DS_Store"), b"\0").unwrap();
    fs::create_dir(metadata.join("0.npy")).unwrap();
    let text = fs::read_to_string(metadata.join("2.npy")).unwrap();
    fs::write(metadata.join("2.npy"), format!("\u{feff}{}\r\n\r\n \r\n", text.trim_end().replace('\n', "\r\n"))).unwrap();
    fs::rename(metadata.join("10.npy"), metadata.join("10.NPY")).unwrap();
    assert_eq!(found(&load(&dir).unwrap()), wanted);
    // The set's own folder.
    assert_eq!(found(&pathfinder::load(set_in(dir.path(), 32), 32, &Faults::refused()).unwrap()), wanted);
}

#[test]
fn a_single_picture_can_be_read() {
    let dir = archive();
    let values = pathfinder::read_png(picture(&dir, "2/sample_5.png"), 32).unwrap();
    assert_eq!(values[..2], [5.0 / 255.0, 12.0 / 255.0]);
    assert!(matches!(pathfinder::read_png(picture(&dir, "2/sample_5.png"), 128), Err(Error::Binary { .. })));
}

// ---- Metadata that numpy wrote ----

/// The format of `numpy.save`, from its description: magic, version, length of the header, header, data.
fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x93NUMPY".to_vec();
    file.extend([version, 0]);
    match version {
        1 => file.extend((header.len() as u16).to_le_bytes()),
        _ => file.extend((header.len() as u32).to_le_bytes()),
    }
    file.extend(header.bytes());
    file.extend(data);
    file
}

fn header(kind: &str, shape: &str) -> String {
    format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}          \n")
}

/// The rows of 12 samples, with the strings filled up to 16 characters, each of them as `character` has it.
fn strings(character: impl Fn(u8) -> Vec<u8>) -> Vec<u8> {
    let mut data = Vec::new();
    for sample in 0..12 {
        for field in row(2, sample, if sample == 7 { "1" } else { "0" }).split(' ') {
            let filled = field.bytes().chain(std::iter::repeat_n(0, 16 - field.len()));
            data.extend(filled.flat_map(&character));
        }
    }
    data
}

fn load_npy(file: &[u8]) -> Result<Splits> {
    let dir = archive();
    for folder in [2, 10, 11] {
        fs::remove_file(set_in(dir.path(), 32).join(format!("metadata/{folder}.npy"))).unwrap();
    }
    write_metadata(&set_in(dir.path(), 32), 2, file);
    load(&dir)
}

#[test]
fn numpy_arrays_of_strings_are_read_like_text() {
    let text: Vec<String> = (0..12).map(|sample| row(2, sample, if sample == 7 { "1" } else { "0" })).collect();
    let labels = |splits: Splits| parts(&splits).map(|part| part.labels().to_vec());
    let wanted = labels(load_npy(text.join("\n").as_bytes()).unwrap());
    assert_eq!(wanted.iter().flatten().sum::<usize>(), 1);
    let little = |byte| u32::from(byte).to_le_bytes().to_vec();
    let big = |byte| u32::from(byte).to_be_bytes().to_vec();
    let rows = strings(|byte| vec![byte]);
    let by_columns: Vec<u8> =
        (0..11).flat_map(|column| (0..12).map(move |row| row * 11 + column)).flat_map(|at| rows[16 * at..16 * (at + 1)].to_vec()).collect();
    let files = [
        npy(1, &header("<U16", "(12, 11)"), &strings(little)),
        npy(2, &header(">U16", "(12, 11)"), &strings(big)),
        npy(3, &header("|S16", "(12, 11)"), &strings(|byte| vec![byte])),
        // Columns one after another, as numpy.asfortranarray has them.
        npy(1, &header("|S16", "(12, 11)").replace("False", "True"), &by_columns),
    ];
    for file in files {
        assert_eq!(labels(load_npy(&file).unwrap()), wanted);
    }
}

#[test]
fn broken_numpy_arrays_are_refused_with_the_byte() {
    let data = strings(|byte| vec![byte]);
    let good = header("|S16", "(12, 11)");
    let wide = strings(|byte| u32::from(byte).to_le_bytes().to_vec());
    let mut no_character = wide.clone();
    no_character[16 * 4 + 3] = 0xff;
    let mut truncated = npy(1, &good, &data);
    truncated.truncate(30);
    let cases = [
        (truncated, 6, "header"),
        (npy(9, &good, &data), 6, "header"),
        (b"\x93NUMPY\x01".to_vec(), 6, "header"),
        (npy(1, &header("<f8", "(12, 11)"), &data), 10, "'<f8'"),
        (npy(1, &header("|O", "(12, 11)"), &data), 10, "'|O'"),
        (npy(2, &header("|Sx", "(12, 11)"), &data), 12, "'|Sx'"),
        (npy(1, &good.replace("False", "None"), &data), 10, "rows and fields"),
        (npy(1, &header("|S16", "(132,)"), &data), 10, "rows and fields"),
        (npy(1, &header("|S16", "(3, 4, 11)"), &data), 10, "rows and fields"),
        (npy(1, "{}", &data), 10, "something else"),
        (npy(1, &good, &data[1..]), 10 + good.len() as u64, "2111 bytes"),
        (npy(1, &good, &[&data[..], &[0]].concat()), 10 + good.len() as u64, "2113 bytes"),
        (npy(1, &header("|S16", "(0, 11)"), &[]), 10 + header("|S16", "(0, 11)").len() as u64, "0 bytes"),
        (npy(1, &header("|S0", "(12, 11)"), &[]), 10 + header("|S0", "(12, 11)").len() as u64, "0 bytes"),
        (
            npy(1, &header("|S4294967296", "(4294967296, 4294967296)"), &data),
            10 + header("|S4294967296", "(4294967296, 4294967296)").len() as u64,
            "2112 bytes",
        ),
        (npy(1, &header("<U16", "(12, 11)"), &no_character), 10 + good.len() as u64 + 64, "no character"),
    ];
    for (file, offset, wanted) in cases {
        match load_npy(&file) {
            Err(Error::Binary { offset: found, help, .. }) => {
                assert!(help.contains(wanted), "{wanted}: {help}");
                assert_eq!(found, offset, "{help}");
            }
            other => panic!("{wanted}: {other:?}"),
        }
    }
    // Too few columns are malformed rows, which are samples.
    let two: Vec<u8> = data.chunks(11 * 16).flat_map(|row| row[..32].to_vec()).collect();
    assert!(matches!(load_npy(&npy(1, &header("|S16", "(12, 2)"), &two)), Err(Error::Data { line: 1, .. })));
}

// ---- Drawn pictures ----

fn few(rules: Rules) -> Rules {
    Rules { train: 40, val: 6, test: 4, ..rules }
}

fn kinds() -> [(Rules, usize); 3] {
    [(Rules::pathfinder16(), 200), (Rules::pathfinder32(), 200), (Rules::path_x(), 100)]
}

fn scene(rules: &Rules, number: usize) -> Scene {
    Scene::new(rules, 5, number).unwrap()
}

fn drawn(rules: &Rules, scene: &Scene) -> Vec<f32> {
    let mut pixels = vec![f32::NAN; rules.side * rules.side];
    scene.draw(rules, &mut pixels).unwrap();
    pixels
}

fn distance(a: [f64; 2], b: [f64; 2]) -> f64 {
    (a[0] - b[0]).hypot(a[1] - b[1])
}

/// The unit vector along a bar.
fn heading(bar: &Bar) -> [f64; 2] {
    let length = distance(bar.from, bar.to);
    [(bar.to[0] - bar.from[0]) / length, (bar.to[1] - bar.from[1]) / length]
}

fn beyond([x, y]: [f64; 2], [dx, dy]: [f64; 2], by: f64) -> [f64; 2] {
    [x + by * dx, y + by * dy]
}

/// Whether `next` goes on where `bar` ends: both ends, lengthened by the margin, meet.
fn follows(bar: &Bar, next: &Bar, margin: f64) -> bool {
    distance(beyond(bar.to, heading(bar), margin), beyond(next.from, heading(next), -margin)) < 1e-9
}

/// All bars, without what line they are of, in an order that tells nothing of it.
fn loose(scene: &Scene) -> Vec<Bar> {
    let mut bars: Vec<Bar> = scene.targets.iter().chain(&scene.distractors).flatten().copied().collect();
    bars.sort_by(|a, b| a.from[0].total_cmp(&b.from[0]));
    bars
}

/// The least distance of the middle lines of two bars, by trying points on both: up to `step`² / `distance` too large.
fn searched_distance(a: &Bar, b: &Bar) -> f64 {
    let points =
        |bar: &Bar| (0..=40).map(|i| beyond(bar.from, heading(bar), distance(bar.from, bar.to) * f64::from(i) / 40.0)).collect::<Vec<_>>();
    let (a, b) = (points(a), points(b));
    a.iter().flat_map(|&p| b.iter().map(move |&q| distance(p, q))).fold(f64::INFINITY, f64::min)
}

#[test]
fn the_label_is_what_a_trace_of_the_bars_finds() {
    for (rules, count) in kinds() {
        for number in 0..count {
            let scene = scene(&rules, number);
            let bars = loose(&scene);
            let starts = |marker: [f64; 2]| bars.iter().find(|bar| distance(bar.from, marker) < 1e-9);
            // One of the discs sits where a line begins: from there bar by bar to the other end.
            let mut bar = starts(scene.markers[0]).expect("a disc at a beginning");
            assert!(!bars.iter().any(|before| follows(before, bar, scene.margin)));
            let mut passed = 1;
            while let Some(next) = bars.iter().find(|next| follows(bar, next, scene.margin)) {
                (bar, passed) = (next, passed + 1);
            }
            assert_eq!(passed, rules.contour_length);
            let joined = distance(bar.to, scene.markers[1]) < 1e-9;
            assert_eq!(scene.label, usize::from(joined), "picture {number}");
            assert_eq!(scene.label, number % 2);
            // The other disc sits on the end of a long line, whichever it is.
            let ends = scene.targets.each_ref().map(|line| line.last().unwrap().to);
            assert!(ends.contains(&scene.markers[1]));
        }
    }
}

#[test]
fn lines_have_their_bars_lengths_gaps_and_turns() {
    for (rules, count) in kinds() {
        let mut margins = BTreeMap::new();
        for number in 0..count {
            let scene = scene(&rules, number);
            *margins.entry(scene.margin.to_bits()).or_insert(0) += 1;
            assert_eq!(scene.distractors.len(), rules.distractors);
            let long = scene.targets.iter().map(|line| (line, rules.contour_length));
            let short = scene.distractors.iter().map(|line| (line, rules.distractor_length));
            for (line, length) in long.chain(short) {
                assert_eq!(line.len(), length);
                assert!(line.iter().all(|bar| (distance(bar.from, bar.to) - rules.paddle_length).abs() < 1e-9));
                for pair in line.windows(2) {
                    assert!(follows(&pair[0], &pair[1], scene.margin));
                    let (a, b) = (heading(&pair[0]), heading(&pair[1]));
                    let turn = (a[0] * b[1] - a[1] * b[0]).atan2(a[0] * b[0] + a[1] * b[1]).abs();
                    assert!(turn <= std::f64::consts::FRAC_PI_2 / rules.continuity + 1e-9, "{turn}");
                }
            }
            let [a, b] = scene.targets.each_ref().map(|line| line[0].from);
            assert!((distance(a, b) - rules.seed_distance).abs() < 1e-9);
            let middle = 2.0 * rules.seed_distance..=rules.side as f64 - 2.0 * rules.seed_distance;
            assert!(a.iter().all(|place| middle.contains(place)), "{a:?}");
        }
        assert_eq!(margins.len(), rules.paddle_margins.len());
        assert!(margins.iter().all(|(&bits, &times)| rules.paddle_margins.contains(&f64::from_bits(bits)) && times > 25), "{margins:?}");
    }
}

#[test]
fn bars_keep_their_margins_and_the_discs_apart() {
    for (rules, count) in kinds() {
        let (mut nearest, mut nearest_edge) = (f64::INFINITY, f64::INFINITY);
        for number in 0..count / 2 {
            let scene = scene(&rules, number);
            let clear = 2.0 * scene.margin + rules.paddle_thickness - 0.5;
            let bars = loose(&scene);
            for (i, a) in bars.iter().enumerate() {
                let strangers = bars[..i].iter().filter(|b| !follows(a, b, scene.margin) && !follows(b, a, scene.margin));
                for b in strangers.filter(|b| distance(a.from, b.from) < clear + 2.0 * rules.paddle_length + 1.0) {
                    nearest = nearest.min(searched_distance(a, b) - clear);
                }
                let edge = rules.padding + scene.margin + rules.paddle_thickness / 2.0 - 0.5;
                for place in [a.from, a.to].concat() {
                    nearest_edge = nearest_edge.min(place.min(rules.side as f64 - place) - edge);
                }
            }
            assert!(distance(scene.markers[0], scene.markers[1]) >= 2.0 * rules.marker_radius + 1.0);
        }
        // They keep it, and no more than it: among so many some come close to what is allowed.
        assert!((0.0..0.05).contains(&nearest), "{nearest}");
        assert!((0.0..0.05).contains(&nearest_edge), "{nearest_edge}");
    }
}

#[test]
fn pixels_are_what_a_slow_renderer_draws() {
    let inside_bar = |bar: &Bar, thickness: f64, point: [f64; 2]| {
        // Along and across, in a frame in which the bar starts at the origin and lies on the first axis.
        let ([dx, dy], [x, y]) = (heading(bar), [point[0] - bar.from[0], point[1] - bar.from[1]]);
        let (along, across) = (x * dx + y * dy, y * dx - x * dy);
        along >= 0.0 && along <= distance(bar.from, bar.to) && across.abs() <= thickness / 2.0
    };
    for (rules, _) in kinds() {
        let thickness = rules.paddle_thickness;
        for number in 0..2 {
            let scene = scene(&rules, number);
            let bars = loose(&scene);
            let pixels = drawn(&rules, &scene);
            for (at, &pixel) in pixels.iter().enumerate() {
                let (x, y) = ((at % rules.side) as f64, (at / rules.side) as f64);
                let points = (0..16).map(|i| [x + f64::from(i % 4) / 4.0 + 0.125, y + f64::from(i / 4) / 4.0 + 0.125]);
                let share = |holds: &dyn Fn([f64; 2]) -> bool| points.clone().filter(|&point| holds(point)).count() as f64 / 16.0;
                let near = bars.iter().filter(|bar| distance(bar.from, [x, y]) < rules.paddle_length + thickness + 2.0);
                let bar = near.map(|bar| share(&|point| inside_bar(bar, thickness, point))).fold(0.0, f64::max);
                let disc = scene.markers.map(|middle| share(&|point| distance(point, middle) <= rules.marker_radius));
                let wanted = disc[0].max(disc[1]).max(rules.contrast * (bar / thickness.min(1.0)).min(1.0));
                assert!((f64::from(pixel) - wanted).abs() < 1e-6, "picture {number}, pixel {at}: {pixel}, not {wanted}");
            }
        }
    }
}

#[test]
fn pictures_have_a_dark_ground_grey_bars_and_two_white_discs() {
    for (rules, count) in kinds() {
        let mut means = [Vec::new(), Vec::new()];
        for number in 0..count {
            let scene = scene(&rules, number);
            let pixels = drawn(&rules, &scene);
            assert!(pixels.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
            let share = |range: std::ops::RangeInclusive<f32>| {
                pixels.iter().filter(|pixel| range.contains(pixel)).count() as f64 / pixels.len() as f64
            };
            assert!(share(0.0..=0.0) > 0.6, "{}", share(0.0..=0.0));
            // Bars never reach white, and of two discs no pixel of which a corner is cut off does.
            let discs = 2.0 * std::f64::consts::PI * rules.marker_radius.powi(2) / pixels.len() as f64;
            assert!(share(1.0..=1.0) <= discs && share(1.0..=1.0) > 0.2 * discs, "{} of {discs}", share(1.0..=1.0));
            means[scene.label].push(pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len() as f64);
        }
        // How bright a picture is tells nothing of its label.
        let statistics = means.map(|means| {
            let mean = means.iter().sum::<f64>() / means.len() as f64;
            let variance = means.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (means.len() - 1) as f64;
            (mean, variance / means.len() as f64)
        });
        let deviations = (statistics[0].0 - statistics[1].0).abs() / (statistics[0].1 + statistics[1].1).sqrt();
        assert!(deviations < 4.0, "{statistics:?}");
    }
}

#[test]
fn turns_are_drawn_as_the_continuity_says() {
    // Two lines of two bars each on a large plane: nothing is in their way, and the density of the turn t is the rule's alone. Under
    // cos²(u), u = continuity t in ±90°, cos(2u) has the mean 1/2 and the variance 1/4; the sine of a whole circle's angle 0 and 1/2.
    for continuity in [0.8, 1.0, 1.8] {
        let rules = Rules { side: 256, seed_distance: 40.0, contour_length: 2, distractors: 0, continuity, ..Rules::pathfinder32() };
        let (mut cosines, mut directions, mut sides) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..1000 {
            for line in scene(&rules, number).targets {
                let (a, b) = (heading(&line[0]), heading(&line[1]));
                let turn = (a[0] * b[1] - a[1] * b[0]).atan2(a[0] * b[0] + a[1] * b[1]);
                cosines.push((2.0 * continuity * turn).cos());
                directions.push(a[0]);
                sides.push(turn.signum());
            }
        }
        for (values, mean, variance) in [(cosines, 0.5, 0.25), (directions, 0.0, 0.5), (sides, 0.0, 1.0f64)] {
            let found = values.iter().sum::<f64>() / values.len() as f64;
            assert!((found - mean).abs() < 4.0 * (variance / values.len() as f64).sqrt(), "{found}, not {mean}");
        }
    }
}

#[test]
fn a_sample_is_the_same_in_any_order_on_any_thread() {
    let rules = few(Rules::pathfinder32());
    let splits = pathfinder::generate(&rules, 5).unwrap();
    assert_eq!(parts(&splits).map(Dataset::len), [40, 6, 4]);
    let order: Vec<usize> = (0..40).rev().collect();
    let batches: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| splits.train.batch(&order).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for batch in batches {
        assert_eq!(batch.shape(), [40, 1024, 1]);
        for (row, &index) in batch.values().unwrap().chunks(1024).zip(&order) {
            assert_eq!(row, drawn(&rules, &scene(&rules, 10 + index)), "sample {index}");
        }
    }
    // The test set comes first, then the validation set, whatever the training set.
    let more = pathfinder::generate(&Rules { train: 50, ..rules.clone() }, 5).unwrap();
    let read = |set: &Dataset| samples(set).into_iter().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!((read(&more.val), read(&more.test)), (read(&splits.val), read(&splits.test)));
    assert_eq!(read(&splits.test)[3].0, drawn(&rules, &scene(&rules, 3)));
    // No two pictures are alike, nor are those of two seeds.
    let mut all: Vec<Vec<u32>> =
        parts(&splits).iter().flat_map(|set| read(set)).map(|(values, _)| values.into_iter().map(f32::to_bits).collect()).collect();
    all.extend(
        read(&pathfinder::generate(&rules, 6).unwrap().test).into_iter().map(|(values, _)| values.into_iter().map(f32::to_bits).collect()),
    );
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 54);
}

#[test]
fn classes_are_balanced_and_both_lines_carry_the_discs() {
    let splits = pathfinder::generate(&few(Rules::path_x()), 5).unwrap();
    for part in parts(&splits) {
        assert_eq!(part.labels().iter().sum::<usize>() * 2, part.len());
        assert_eq!(part.majority(), 0.5);
    }
    // Which line has the disc at its beginning is drawn: of 200, 100 with a deviation of 7.
    let rules = Rules::pathfinder32();
    let first = |&number: &usize| scene(&rules, number).targets[0][0].from == scene(&rules, number).markers[0];
    let count = (0..200).filter(first).count();
    assert!((72..=128).contains(&count), "{count}");
}

#[test]
fn official_rules_have_the_official_sizes() {
    let sizes = |splits: Splits| (parts(&splits).map(Dataset::len), splits.train.longest());
    assert_eq!(sizes(pathfinder::generate(&Rules::pathfinder32(), 0).unwrap()), ([160_000, 20_000, 20_000], 1024));
    assert_eq!(sizes(pathfinder::generate(&Rules::path_x(), 0).unwrap()), ([160_000, 20_000, 20_000], 16_384));
}

#[test]
fn rules_that_make_no_sense_are_refused_by_name() {
    let good = few(Rules::pathfinder32());
    type Spoil = fn(&mut Rules);
    let cases: [(&str, Spoil); 17] = [
        ("side", |rules| rules.side = 0),
        ("side", |rules| rules.side = 2000),
        ("padding", |rules| rules.padding = -1.0),
        ("paddle_length", |rules| rules.paddle_length = 0.0),
        ("paddle_thickness", |rules| rules.paddle_thickness = f64::NAN),
        ("paddle_margins", |rules| rules.paddle_margins.clear()),
        ("paddle_margins", |rules| rules.paddle_margins.push(0.4)),
        ("continuity", |rules| rules.continuity = 0.4),
        ("contour_length", |rules| rules.contour_length = 0),
        ("distractor_length", |rules| rules.distractor_length = 0),
        ("distractors", |rules| rules.distractors = 5000),
        ("seed_distance", |rules| rules.seed_distance = 8.1),
        ("marker_radius", |rules| rules.marker_radius = f64::INFINITY),
        ("contrast", |rules| rules.contrast = 1.1),
        ("train", |rules| rules.train = 0),
        ("val", |rules| rules.val = 0),
        ("test", |rules| rules.test = usize::MAX),
    ];
    for (name, spoil) in cases {
        let mut rules = good.clone();
        spoil(&mut rules);
        match pathfinder::generate(&rules, 0) {
            Err(Error::Config { name: found, .. }) => assert_eq!(found, name),
            other => panic!("{name}: {other:?}"),
        }
        assert!(matches!(Scene::new(&rules, 0, 0), Err(Error::Config { .. })));
    }
}

#[test]
fn rules_that_leave_no_room_are_refused() {
    // No bar at all, long lines that cannot be, and short ones that have no room.
    let rules = Rules::pathfinder32();
    for rules in [
        Rules { paddle_length: 30.0, ..rules.clone() },
        Rules { contour_length: 60, ..rules.clone() },
        Rules { distractors: 40, ..rules.clone() },
        Rules { marker_radius: 30.0, ..rules },
    ] {
        match pathfinder::generate(&few(rules), 0) {
            Err(Error::Value { help, .. }) => assert!(help.contains("no picture had room") && help.contains("fewer or shorter"), "{help}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_picture_is_drawn_only_into_as_many_pixels_as_it_has() {
    let rules = Rules::pathfinder32();
    let message = help(scene(&rules, 0).draw(&rules, &mut [0.0; 1000]));
    assert!(message.contains("1024") && message.contains("1000"), "{message}");
}

#[test]
fn a_seed_draws_the_same_pictures_as_ever() {
    // Sums of the pixels weighted by their places: recorded when the streams were settled, so that a change of what a seed means does not
    // go unseen.
    let weighted = |rules: &Rules| {
        let pixels = drawn(rules, &scene(rules, 7));
        pixels.iter().enumerate().map(|(at, &pixel)| (at as u64 + 1) * (f64::from(pixel) * 960.0).round() as u64).sum::<u64>()
    };
    assert_eq!((weighted(&Rules::pathfinder32()), weighted(&Rules::path_x())), (44_645_790, 3_052_894_386));
}
