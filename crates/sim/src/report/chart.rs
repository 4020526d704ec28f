//! One chart: stacked steps over time, with a line for what was wanted and marks for what happened.

use std::fmt::Write as _;
use std::time::Duration;

use super::escaped;
use crate::words::clock;

/// No more steps than twice these are drawn.
const SLICES: usize = 300;
/// Room for the figures on the left, for marks above, for times below, and on the right.
const LEFT: f64 = 30.0;
const ABOVE: f64 = 20.0;
const BELOW: f64 = 20.0;
const RIGHT: f64 = 12.0;

/// What is drawn of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// At the bottom.
    pub on_demand: u32,
    /// On top of it.
    pub spot: u32,
    /// On top of both.
    pub unknown: u32,
    /// The line, where there is one.
    pub wanted: Option<u32>,
}

impl Level {
    const fn all(self) -> u32 {
        self.on_demand + self.spot + self.unknown
    }
}

/// A chart to be drawn.
pub struct Chart<'r> {
    /// The steps, each from its time until that of the next.
    pub levels: Vec<(Duration, Level)>,
    /// Until when.
    pub lasted: Duration,
    /// What the axis reaches up to.
    pub top: u32,
    /// What happened: each is marked with its number, from 1.
    pub marks: &'r [(Duration, &'r str)],
    /// How wide and how high it is, axes included.
    pub size: (f64, f64),
}

/// The highest that any of them reaches, and at least 1.
pub fn top<'l>(of: impl IntoIterator<Item = &'l [(Duration, Level)]>) -> u32 {
    of.into_iter().flatten().map(|(_, level)| level.all().max(level.wanted.unwrap_or(0))).max().unwrap_or(1).max(1)
}

/// At most so many steps that a dip is never lost: of each slice of time the lowest, and the last. And how many are left out.
pub fn thinned(levels: Vec<(Duration, Level)>, lasted: Duration) -> (Vec<(Duration, Level)>, usize) {
    if levels.len() <= 2 * SLICES {
        return (levels, 0);
    }
    let all = levels.len();
    let slice = |at: Duration| (at.as_secs_f64() / lasted.as_secs_f64().max(1.0) * precise(SLICES)).floor();
    let mut kept = Vec::new();
    for part in levels.chunk_by(|(one, _), (other, _)| slice(*one).total_cmp(&slice(*other)).is_eq()) {
        let lowest = part.iter().enumerate().min_by_key(|(_, (_, level))| level.all()).map_or(0, |(place, _)| place);
        kept.push(part[lowest]);
        if lowest + 1 < part.len() {
            kept.push(part[part.len() - 1]);
        }
    }
    let left_out = all - kept.len();
    (kept, left_out)
}

#[expect(clippy::cast_precision_loss, reason = "a number of slices")]
const fn precise(number: usize) -> f64 {
    number as f64
}

impl Chart<'_> {
    /// The elements of its picture.
    pub fn draw(&self) -> String {
        let mut out = String::new();
        self.axes(&mut out);
        let ground = |_: Level| 0;
        let middle = |level: Level| level.on_demand;
        let upper = |level: Level| level.on_demand + level.spot;
        self.area(&mut out, "o", ground, middle);
        self.area(&mut out, "s", middle, upper);
        self.area(&mut out, "u", upper, Level::all);
        self.wanted(&mut out);
        self.marks(&mut out);
        out
    }

    fn x(&self, at: Duration) -> f64 {
        let width = self.size.0 - LEFT - RIGHT;
        (at.as_secs_f64() / self.lasted.as_secs_f64().max(0.001)).clamp(0.0, 1.0).mul_add(width, LEFT)
    }

    fn y(&self, number: u32) -> f64 {
        let height = self.size.1 - ABOVE - BELOW;
        (1.0 - f64::from(number) / f64::from(self.top)).mul_add(height, ABOVE)
    }

    fn axes(&self, out: &mut String) {
        let (left, right) = (self.x(Duration::ZERO), self.x(self.lasted));
        let half = self.top / 2;
        for number in [0, half, self.top].into_iter().filter(|number| *number == 0 || *number != half || self.top > 3) {
            let y = self.y(number);
            add(out, format_args!(r#"<path class="g" d="M{left:.1} {y:.1}H{right:.1}"/>"#));
            add(
                out,
                format_args!(
                    r#"<text class="t" x="{:.1}" y="{:.1}" text-anchor="end">{number}</text>"#,
                    left - 6.0,
                    y + 4.0
                ),
            );
        }
        let below = self.size.1 - 5.0;
        for at in ticks(self.lasted) {
            let x = self.x(at);
            add(
                out,
                format_args!(r#"<text class="t" x="{x:.1}" y="{below:.1}" text-anchor="middle">{}</text>"#, clock(at)),
            );
        }
    }

    /// Between two lines of steps.
    fn area(&self, out: &mut String, class: &str, low: impl Fn(Level) -> u32, high: impl Fn(Level) -> u32) {
        if self.levels.iter().all(|(_, level)| low(*level) == high(*level)) {
            return;
        }
        let mut path = String::new();
        let Some((first, _)) = self.levels.first() else { return };
        let ends: Vec<f64> =
            self.levels.iter().skip(1).map(|(at, _)| *at).chain([self.lasted]).map(|at| self.x(at)).collect();
        add(&mut path, format_args!("M{:.1} {:.1}", self.x(*first), self.y(0)));
        for ((_, level), end) in self.levels.iter().zip(&ends) {
            add(&mut path, format_args!("V{:.1}H{end:.1}", self.y(high(*level))));
        }
        for (at, level) in self.levels.iter().rev() {
            add(&mut path, format_args!("V{:.1}H{:.1}", self.y(low(*level)), self.x(*at)));
        }
        add(out, format_args!(r#"<path class="{class}" d="{path}Z"/>"#));
    }

    fn wanted(&self, out: &mut String) {
        let mut path = String::new();
        let mut last = None;
        for (at, level) in &self.levels {
            let Some(wanted) = level.wanted.filter(|wanted| last != Some(*wanted)) else { continue };
            let (x, y) = (self.x(*at), self.y(wanted));
            match last {
                None => add(&mut path, format_args!("M{x:.1} {y:.1}")),
                Some(_) => add(&mut path, format_args!("H{x:.1}V{y:.1}")),
            }
            last = Some(wanted);
        }
        if last.is_some() {
            add(out, format_args!(r#"<path class="w" d="{path}H{:.1}"/>"#, self.x(self.lasted)));
        }
    }

    fn marks(&self, out: &mut String) {
        let mut last = f64::MIN;
        for (number, (at, what)) in self.marks.iter().enumerate() {
            let x = self.x(*at);
            let bottom = self.size.1 - BELOW;
            add(out, format_args!(r#"<g class="m"><title>{} {}</title>"#, clock(*at), escaped(what)));
            add(out, format_args!(r#"<path d="M{x:.1} {:.1}V{bottom:.1}"/>"#, ABOVE - 4.0));
            // Those that are too near to each other share a place; the first says where they begin.
            if x - last >= 14.0 {
                add(
                    out,
                    format_args!(
                        r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                        ABOVE - 7.0,
                        number + 1
                    ),
                );
                last = x;
            }
            out.push_str("</g>");
        }
    }
}

fn add(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a String takes everything");
}

/// Between four and nine times, at round ones.
fn ticks(lasted: Duration) -> Vec<Duration> {
    let seconds = lasted.as_secs().max(1);
    let steps = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400];
    let step = steps.into_iter().find(|step| seconds / step < 6).unwrap_or(seconds / 4);
    (0..=seconds / step).map(|number| Duration::from_secs(number * step)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: u64, on_demand: u32, spot: u32) -> (Duration, Level) {
        (Duration::from_secs(at), Level { on_demand, spot, unknown: 0, wanted: Some(4) })
    }

    fn chart(levels: Vec<(Duration, Level)>) -> Chart<'static> {
        Chart { levels, lasted: Duration::from_secs(100), top: 4, marks: &[], size: (142.0, 80.0) }
    }

    #[test]
    fn types_stand_on_each_other_and_last_until_the_next_step() {
        let drawn = chart(vec![step(0, 1, 1), step(50, 2, 2)]).draw();
        // 40 units are 4 pods, 100 units are 100 seconds.
        assert!(drawn.contains(r#"class="o" d="M30.0 60.0V50.0H80.0V40.0H130.0V60.0H80.0V60.0H30.0Z""#), "{drawn}");
        assert!(drawn.contains(r#"class="s" d="M30.0 60.0V40.0H80.0V20.0H130.0V40.0H80.0V50.0H30.0Z""#), "{drawn}");
        assert!(drawn.contains(r#"class="w" d="M30.0 20.0H130.0""#) && !drawn.contains(r#"class="u""#), "{drawn}");
    }

    #[test]
    fn however_many_steps_there_are_the_lowest_is_drawn() {
        let levels: Vec<_> = (0..10_000).map(|at| step(at, u32::from(at != 5_003), 3)).collect();
        let (kept, left_out) = thinned(levels, Duration::from_secs(10_000));
        assert!(kept.len() <= 2 * SLICES && kept.len() + left_out == 10_000, "{}", kept.len());
        assert!(kept.contains(&step(5_003, 0, 3)) && kept.is_sorted_by_key(|(at, _)| *at));
        assert_eq!(thinned(vec![step(0, 1, 1)], Duration::from_secs(1)), (vec![step(0, 1, 1)], 0));
    }

    #[test]
    fn marks_are_escaped_and_do_not_cover_each_other() {
        let marks =
            [(Duration::from_secs(10), "<b>&\""), (Duration::from_secs(11), "b"), (Duration::from_mins(1), "c")];
        let drawn = Chart { marks: &marks, ..chart(vec![step(0, 1, 1)]) }.draw();
        assert!(drawn.contains("0:10 &lt;b&gt;&amp;&quot;</title>"), "{drawn}");
        let numbers: Vec<bool> =
            (1..=3).map(|number| drawn.contains(&format!(r#"text-anchor="middle">{number}</text></g>"#))).collect();
        assert_eq!(numbers, [true, false, true]);
    }

    #[test]
    fn an_axis_has_few_round_times() {
        for (seconds, first) in [(1, 5), (240, 60), (300, 60), (4_500, 900), (86_400, 21_600)] {
            let ticks = ticks(Duration::from_secs(seconds));
            assert!(ticks.len() <= 7, "{ticks:?}");
            assert!(ticks.get(1).is_none_or(|tick| tick.as_secs() == first), "{seconds}: {ticks:?}");
        }
    }
}
