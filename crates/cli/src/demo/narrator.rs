//! Tells the story at a readable speed, with a picture of how things stand below it where there is a terminal for it.
//!
//! The clock of a simulation stands still while it is being told of a moment, so slowness is a sleep here and nowhere else
//! (ADR 0012). Lines go up into the terminal's memory; the picture is drawn over itself.

use std::io::{self, Write};
use std::time::Duration;

use spotalis_sim::record::Moment;

use super::board::Board;
use super::ink::Text;
use super::story::Story;
use crate::table::{Palette, Unwritten};

/// How often the picture's clock moves, in time of the wall.
pub const TICK: Duration = Duration::from_millis(100);
/// How far a line's further parts are set in.
const INDENT: usize = 9;

/// What the terminal is like.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether there are colours.
    pub palette: Palette,
    /// Whether there is a picture.
    pub live: bool,
    /// How wide it is, if that is known.
    pub width: Option<usize>,
}

/// Writes until nobody reads any more, which is no error.
#[derive(Debug)]
pub struct Pen<W> {
    out: W,
    closed: bool,
    failed: Option<io::Error>,
}

impl<W: Write> Pen<W> {
    /// One that writes there.
    pub const fn new(out: W) -> Self {
        Self { out, closed: false, failed: None }
    }

    /// Writes, and has it arrive.
    pub fn write(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) {
        if self.closed {
            return;
        }
        if let Err(error) = write(&mut self.out).and_then(|()| self.out.flush()) {
            self.closed = true;
            self.failed = Some(error).filter(|error| error.kind() != io::ErrorKind::BrokenPipe);
        }
    }

    /// Whether anybody reads.
    pub const fn is_read(&self) -> bool {
        !self.closed
    }

    /// What went wrong, other than that nobody reads.
    pub fn finish(self) -> Result<(), Unwritten> {
        self.failed.map(Unwritten).map_or(Ok(()), Err)
    }
}

/// Tells a run.
#[derive(Debug)]
pub struct Narrator<W> {
    pen: Pen<W>,
    look: Look,
    /// Simulated seconds per second; none is as fast as it goes.
    speed: Option<f64>,
    lasts: Duration,
    now: Duration,
    story: Story,
    board: Board,
    /// The picture that is on the screen.
    drawn: Vec<String>,
}

impl<W: Write> Narrator<W> {
    /// One that has told nothing yet.
    pub fn new(pen: Pen<W>, look: Look, speed: Option<f64>, lasts: Duration) -> Self {
        let (story, board) = (Story::default(), Board::default());
        Self { pen, look, speed, lasts, now: Duration::ZERO, story, board, drawn: Vec::new() }
    }

    /// Lines that are not part of the story.
    pub fn say(&mut self, lines: &[Text]) {
        let lines: Vec<String> = lines.iter().flat_map(|line| self.lines(line, 0)).collect();
        self.show(&lines);
    }

    /// Tells a moment once its time has come.
    pub fn hear(&mut self, at: Duration, moment: &Moment) {
        self.pass(at);
        self.board.hear(moment);
        let told = self.story.hear(at, moment);
        self.tell(&told);
    }

    /// It is that late; nothing happened since.
    pub fn tick(&mut self, by: Duration) {
        self.now = (self.now + by).min(self.lasts);
        let told = self.story.until(self.now);
        self.tell(&told);
        if self.look.live {
            self.show(&[]);
        }
    }

    /// Whether anybody reads.
    pub const fn is_read(&self) -> bool {
        self.pen.is_read()
    }

    /// The end: whatever is held back is told, and the picture stays as it is.
    pub fn end(mut self) -> Pen<W> {
        self.pass(self.lasts);
        let told = self.story.tell();
        self.tell(&told);
        if self.look.live {
            self.show(&[]);
        }
        self.pen
    }

    /// Waits until it is that late.
    fn pass(&mut self, until: Duration) {
        if let Some(speed) = self.speed {
            while self.now < until && self.pen.is_read() {
                let step = TICK.mul_f64(speed).min(until.saturating_sub(self.now));
                wait(step.div_f64(speed));
                self.tick(step);
            }
        }
        self.now = self.now.max(until);
    }

    fn tell(&mut self, told: &[Text]) {
        if !told.is_empty() {
            let lines: Vec<String> = told.iter().flat_map(|line| self.lines(line, INDENT)).collect();
            self.show(&lines);
        }
    }

    fn lines(&self, text: &Text, indent: usize) -> Vec<String> {
        let wrapped = text.wrapped(self.look.width, indent);
        wrapped.iter().map(|line| line.paint(self.look.palette).trim_end().to_owned()).collect()
    }

    /// Writes lines above the picture, and the picture anew if it is another.
    fn show(&mut self, lines: &[String]) {
        let picture: Vec<String> = if self.look.live {
            self.board.draw(self.now, self.lasts).iter().map(|line| line.paint(self.look.palette)).collect()
        } else {
            Vec::new()
        };
        if lines.is_empty() && picture == self.drawn {
            return;
        }
        let above = match self.drawn.len() {
            0 => String::new(),
            height => format!("\x1b[{height}A\x1b[J"),
        };
        let story: String = joined(lines);
        let below: String = joined(&picture);
        // Lines of the picture are cut off at the edge rather than wrapped: the next one is to begin where this one did.
        let below = if below.is_empty() { below } else { format!("\x1b[?7l{below}\x1b[?7h") };
        self.pen.write(|out| write!(out, "{above}{story}{below}"));
        self.drawn = picture;
    }
}

/// Lines, each with its end.
fn joined(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Time passes on the wall, and nowhere else: the runtime that the simulation is on stands still meanwhile.
#[expect(clippy::disallowed_methods, reason = "tokio's clock is paused, and jumps over whatever is waited for by it")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use spotalis_sim::record::{Counts, Sides};

    use super::*;

    fn happened(what: &str) -> Moment {
        Moment::Happened { what: what.to_owned() }
    }

    fn told(look: Look, moments: &[(u64, Moment)]) -> String {
        let mut narrator = Narrator::new(Pen::new(Vec::new()), look, None, Duration::from_mins(1));
        for (at, moment) in moments {
            narrator.hear(Duration::from_secs(*at), moment);
        }
        String::from_utf8(narrator.end().out).unwrap()
    }

    const PLAIN: Look = Look { palette: Palette::Plain, live: false, width: None };

    #[test]
    fn a_pipe_gets_lines_and_nothing_else() {
        assert_eq!(told(PLAIN, &[(1, happened("a")), (61, happened("b"))]), "   0:01  a\n   1:01  b\n");
        let narrow = Look { width: Some(20), ..PLAIN };
        assert_eq!(told(narrow, &[(1, happened("one two three"))]), "   0:01  one two\n         three\n");
    }

    #[test]
    fn the_story_goes_up_and_the_picture_is_drawn_over_itself() {
        let ready = Sides { spot: 1, on_demand: 0, unknown: 0 };
        let counts = Counts { wanted: 1, ready, placed: ready, pending: 0 };
        let counted = Moment::Counted { workload: "shop/web".to_owned(), counts };
        let live = Look { live: true, ..PLAIN };
        let told = told(live, &[(0, counted), (5, happened("a")), (6, happened("b"))]);
        let frames: Vec<&str> = told.split("\x1b[J").collect();
        assert!(
            frames[0].starts_with("   0:00  web  ●  1 of 1 ready: 1 on spot, 0 on on-demand\n   0:05  a\n\x1b[?7l──")
        );
        assert!(frames[0].contains("\n0:05 of 1:00") && frames[0].ends_with("\x1b[?7h\x1b[4A"), "{told:?}");
        assert!(frames[1].starts_with("   0:06  b\n\x1b[?7l──") && frames[1].contains("\nweb  ●"), "{told:?}");
        assert!(frames[2].contains("\n1:00 of 1:00") && frames[2].ends_with("\x1b[?7h"), "{told:?}");
    }

    /// A reader that closes after the first line.
    struct Head(usize);

    impl Write for Head {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 1 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_and_nothing_fails_once_nobody_reads() {
        let mut narrator = Narrator::new(Pen::new(Head(0)), PLAIN, Some(0.001), Duration::from_mins(10));
        narrator.hear(Duration::ZERO, &happened("a"));
        narrator.hear(Duration::ZERO, &happened("b"));
        // At this speed it would take a week.
        narrator.hear(Duration::from_mins(10), &happened("c"));
        let pen = narrator.end();
        assert!(!pen.is_read() && pen.finish().is_ok());
    }

    #[test]
    fn a_full_disk_is_told() {
        let mut pen = Pen::new(Vec::new());
        pen.write(|_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(pen.finish().unwrap_err().0.kind(), io::ErrorKind::StorageFull);
    }
}
