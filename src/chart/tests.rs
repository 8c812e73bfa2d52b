use super::layout::ticks;
use super::*;

const INKS: Inks = Inks { ground: [255; 3], strong: [0; 3], weak: [90; 3], hairline: [220; 3] };
const BLUE: Rgb = [0, 0x72, 0xb2];

fn chart(form: Form, values: &[(f64, Option<(f64, f64)>)]) -> Chart {
    let value = |(value, interval): &(f64, Option<(f64, f64)>)| Value {
        name: "int8".to_owned(),
        value: *value,
        interval: *interval,
        text: format!("{value} <KB>"),
        ink: BLUE,
        outlined: false,
    };
    let group = Group { name: "1  ResNet18 & more".to_owned(), values: values.iter().map(value).collect() };
    Chart { title: "Size".to_owned(), unit: "KB".to_owned(), form, groups: vec![group] }
}

fn bars(picture: &Picture) -> Vec<f32> {
    let width = |m: &Mark| match m {
        Mark::Rect { size, .. } => Some(size[0]),
        Mark::Line { .. } | Mark::Dot { .. } | Mark::Text { .. } => None,
    };
    picture.marks.iter().filter_map(width).collect()
}

#[test]
fn bars_are_as_long_as_their_values() {
    let picture = layout(&chart(Form::Bars, &[(400.0, None), (100.0, None), (f64::NAN, None)]), 600.0, &INKS);
    let bars = bars(&picture);
    assert_eq!(bars.len(), 2, "what is no number has no bar");
    assert!((bars[0] / bars[1] - 4.0).abs() < 1e-3, "{bars:?}");
    assert!(bars[0] < 600.0 && picture.size[0] == 600.0);
}

#[test]
fn a_point_stands_inside_its_interval() {
    let picture = layout(&chart(Form::Points, &[(91.0, Some((90.0, 92.0))), (88.0, Some((86.5, 89.5)))]), 600.0, &INKS);
    let dots: Vec<f32> =
        picture.marks.iter().filter_map(|m| if let Mark::Dot { at, .. } = m { Some(at[0]) } else { None }).collect();
    let wide = |y: f32| {
        picture.marks.iter().find_map(|m| match m {
            Mark::Line { from, to, .. } if from[1] == y && to[1] == y => Some((from[0], to[0])),
            _ => None,
        })
    };
    let at: Vec<[f32; 2]> =
        picture.marks.iter().filter_map(|m| if let Mark::Dot { at, .. } = m { Some(*at) } else { None }).collect();
    for dot in at {
        let (low, high) = wide(dot[1]).expect("an interval");
        assert!(low < dot[0] && dot[0] < high);
    }
    assert!(dots[0] > dots[1]);
}

#[test]
fn marks_are_few_and_round() {
    assert_eq!(ticks(0.0, 400.0), [0.0, 100.0, 200.0, 300.0, 400.0]);
    assert!(ticks(1.0, 1.0).is_empty() && ticks(f64::NAN, 1.0).is_empty());
    for (low, high) in [(0.0, 1.0), (86.2, 92.3), (0.0, 3e-5)] {
        assert!((2..=7).contains(&ticks(low, high).len()), "{low} to {high}: {:?}", ticks(low, high));
    }
}

#[test]
fn an_svg_is_well_formed_whatever_the_names_hold() {
    let mut chart = chart(Form::Bars, &[(400.0, None)]);
    chart.groups[0].name = "a <b> & \"c\" \u{0} \u{5b57}".to_owned();
    let text = svg(&layout(&chart, 600.0, &INKS), &INKS);
    let tree = resvg::usvg::Tree::from_str(&text, &resvg::usvg::Options::default());
    assert!(tree.is_ok(), "{:?}\n{text}", tree.err());
    assert!(text.contains("a &lt;b&gt; &amp; &quot;c&quot;"));
}

#[test]
fn a_png_shows_the_bar_where_it_is_laid_out_and_its_text() {
    let picture = layout(&chart(Form::Bars, &[(400.0, None)]), 600.0, &INKS);
    let faces: [&[u8]; 2] = [
        include_bytes!("../../assets/fonts/Inter-Regular.otf"),
        include_bytes!("../../assets/fonts/Inter-SemiBold.otf"),
    ];
    let bytes = png(&svg(&picture, &INKS), 2.0, &faces).expect("a picture");
    let pixels = image::load_from_memory(&bytes).expect("a PNG").to_rgb8();
    assert_eq!([pixels.width(), pixels.height()], picture.size.map(|s| ((s + 48.0) * 2.0).ceil() as u32));
    let Some(Mark::Rect { at, size, .. }) = picture.marks.iter().find(|m| matches!(m, Mark::Rect { .. })) else {
        panic!("no bar")
    };
    let middle = [0, 1].map(|i| ((at[i] + size[i] / 2.0 + 24.0) * 2.0) as u32);
    assert_eq!(pixels.get_pixel(middle[0], middle[1]).0, BLUE);
    // The title: dark pixels in the first line.
    let dark =
        (0..200).flat_map(|x| (48..96).map(move |y| (x + 48, y))).filter(|(x, y)| pixels.get_pixel(*x, *y).0[0] < 64);
    assert!(dark.count() > 50, "the title is not painted");
}

#[test]
fn a_table_is_quoted_where_it_must_be() {
    let row = |cells: &[&str]| cells.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>();
    let rows = [row(&["run", "say \"so\"", "a,b"]), row(&["-0.5", "=1+1", "\u{2212}0.3"])];
    let text = csv(rows.iter().map(Vec::as_slice));
    assert_eq!(text, "run,\"say \"\"so\"\"\",\"a,b\"\r\n-0.5,'=1+1,\u{2212}0.3\r\n");
}
