//! What the monkey does.

use std::time::{Duration, Instant};

use eframe::egui::accesskit::{Role, Toggled};
use eframe::egui::{Event, Key, Modifiers, MouseWheelSource, MouseWheelUnit, Pos2, Rect, TouchPhase, Vec2, pos2, vec2};
use egui_kittest::Node;
use egui_kittest::kittest::{NodeT, Queryable};
use octet::session::ModelId;

use super::{CANCEL, Monkey, start};

const CTRL: Modifiers = Modifiers::COMMAND;

/// Models that are small enough to do much with in little time.
const SMALL: [ModelId; 2] = [ModelId::ShuffleNetV2X05, ModelId::MobileNetV3Small];

const KEYS: [Key; 29] = [
    Key::Num1,
    Key::Num2,
    Key::Num3,
    Key::Num4,
    Key::Num5,
    Key::Num6,
    Key::R,
    Key::R,
    Key::R,
    Key::F,
    Key::Escape,
    Key::Tab,
    Key::Tab,
    Key::Enter,
    Key::Space,
    Key::ArrowUp,
    Key::ArrowDown,
    Key::ArrowLeft,
    Key::ArrowRight,
    Key::Home,
    Key::End,
    Key::PageUp,
    Key::PageDown,
    Key::Delete,
    Key::Backspace,
    Key::F1,
    Key::Num0,
    Key::Minus,
    Key::A,
];

const COMMANDED: [Key; 11] =
    [Key::P, Key::Z, Key::Y, Key::S, Key::Plus, Key::Minus, Key::Num0, Key::A, Key::C, Key::X, Key::Equals];

/// What is typed into the palette.
const WISHES: [&str; 34] = [
    "run all",
    "run this",
    "cancel",
    "undo",
    "redo",
    "save",
    "fit",
    "light",
    "keys",
    "log",
    "inspector",
    "qat",
    "ptq",
    "qconfig qnnpack",
    "qconfig onednn",
    "qconfig x86",
    "images",
    "compare",
    "learn",
    "conv1",
    "stage2.0",
    "epochs 1",
    "epochs 2",
    "onnx",
    "pytorch beside",
    "report",
    "recipe",
    "quantize the sample",
    "walk the six",
    "continue where",
    "graph of",
    "code of",
    "open mobilenetv3 small",
    "nothing is called so",
];

/// What is typed into a field that seeks something.
const WORDS: [&str; 8] =
    ["conv1", "", "branch", "relu", "\u{65e5}\u{672c}", "\u{202e}a", "(", "layer that is not there"];

/// What is typed into a field for a number.
const NUMBERS: [&str; 10] = ["0", "1", "2", "-5", "1e9", "0.001", "NaN", "inf", "abc", "16"];

/// In points.
const SIZES: [[f32; 2]; 12] = [
    [120.0, 80.0],
    [200.0, 150.0],
    [320.0, 240.0],
    [560.0, 340.0],
    [640.0, 360.0],
    [800.0, 600.0],
    [999.0, 699.0],
    [1024.0, 700.0],
    [1280.0, 800.0],
    [1280.0, 800.0],
    [1920.0, 1080.0],
    [3840.0, 2160.0],
];

/// Whether it takes too long for what is learnt by it: another test does it.
fn heavy(label: &str) -> bool {
    let large = ModelId::ALL.into_iter().filter(|model| !SMALL.contains(model));
    label == "Compare: Sizes of every model" || large.into_iter().any(|model| label.ends_with(model.title()))
}

fn clickable(node: &Node<'_>) -> bool {
    let node = node.accesskit_node();
    let role = matches!(
        node.role(),
        Role::Button
            | Role::CheckBox
            | Role::RadioButton
            | Role::ComboBox
            | Role::Link
            | Role::Tab
            | Role::MenuItem
            | Role::Slider
            | Role::SpinButton
            | Role::TextInput
            | Role::Figure
    );
    role && !node.is_disabled() && !node.is_hidden() && node.label().is_some_and(|l| !l.is_empty() && !heavy(&l))
}

impl Monkey {
    /// One thing that a user does.
    pub(super) fn act(&mut self, i: usize) {
        let said = match self.dice.below(100) {
            0..=41 => self.click(),
            42..=48 => self.write(),
            49..=53 => self.drag(),
            54..=66 => self.press(),
            67..=72 => self.palette(),
            73..=79 => self.scroll(),
            80..=83 => self.resize(),
            84..=86 => self.change("Light", "Dark"),
            87..=90 => self.cancel(),
            91..=94 => self.undo(),
            95..=96 => self.drop_file(),
            _ => self.wait(),
        };
        self.journal.note(format!("{i}: {said}"));
    }

    fn nodes(&self, fits: impl Fn(&Node<'_>) -> bool) -> Vec<Node<'_>> {
        self.harness.root().children_recursive().filter(|node| fits(node)).collect()
    }

    fn room(&self) -> Rect {
        self.harness.ctx.content_rect()
    }

    fn somewhere(&mut self) -> Pos2 {
        let room = self.room();
        let part = |dice: &mut super::Dice| dice.below(1000) as f32 / 1000.0;
        pos2(room.width() * part(&mut self.dice), room.height() * part(&mut self.dice))
    }

    /// On the middle of a widget; on one that is out of sight by its name, as a screen reader does.
    fn click(&mut self) -> String {
        let chosen = self.dice.next() as usize;
        let by_name = self.dice.chance(30);
        let room = self.room();
        let all = self.nodes(clickable);
        let Some(node) = all.get(chosen % all.len().max(1)) else { return "finds nothing to click".to_owned() };
        let (label, role) = (node.accesskit_node().label().unwrap_or_default(), node.accesskit_node().role());
        if by_name || !room.contains(node.rect().center()) {
            node.click_accesskit();
        } else {
            node.click();
        }
        format!("clicks {role:?} `{label}`")
    }

    fn select_all(&mut self) {
        self.harness.key_press_modifiers(CTRL, Key::A);
        self.harness.step();
    }

    fn write(&mut self) -> String {
        let chosen = self.dice.next() as usize;
        let field = |n: &Node<'_>| {
            let n = n.accesskit_node();
            matches!(n.role(), Role::TextInput | Role::SpinButton) && !n.is_disabled() && !n.data().is_read_only()
        };
        let all = self.nodes(field);
        let Some(node) = all.get(chosen % all.len().max(1)) else { return "finds no field".to_owned() };
        let (label, role) = (node.accesskit_node().label().unwrap_or_default(), node.accesskit_node().role());
        node.click();
        self.harness.step();
        self.harness.step();
        self.select_all();
        let text = if role == Role::SpinButton {
            self.dice.pick(&NUMBERS).to_owned()
        } else if ["earch", "Filter", "Find"].iter().any(|word| label.contains(word)) {
            self.dice.pick(&WORDS).to_owned()
        } else {
            let paths = start::paths(&self.folder);
            paths[self.dice.below(paths.len())].display().to_string()
        };
        self.harness.event(Event::Text(text.clone()));
        if self.dice.chance(60) {
            self.harness.key_press(Key::Enter);
        }
        self.harness.step();
        format!("writes `{text}` into `{label}`")
    }

    fn drag(&mut self) -> String {
        let at_widget = self.dice.chance(60);
        let chosen = self.dice.next() as usize;
        let (mut from, to) = (self.somewhere(), self.somewhere());
        let mut label = "the ground".to_owned();
        if at_widget {
            let room = self.room();
            let wanted = |n: &Node<'_>| {
                let role = n.accesskit_node().role();
                matches!(role, Role::Figure | Role::Slider | Role::SpinButton | Role::ScrollBar | Role::Splitter)
                    && room.contains(n.rect().center())
            };
            let all = self.nodes(wanted);
            if let Some(node) = all.get(chosen % all.len().max(1)) {
                from = node.rect().center();
                label = node.accesskit_node().label().unwrap_or_default();
            }
        }
        self.harness.hover_at(from);
        self.harness.drag_at(from);
        for i in 1..=4 {
            self.harness.hover_at(from + (to - from) * (i as f32 / 4.0));
        }
        self.harness.drop_at(to);
        self.harness.step();
        format!("drags `{label}` from {from:?} to {to:?}")
    }

    fn press(&mut self) -> String {
        if self.dice.chance(6) {
            let text = if self.dice.chance(50) { "?" } else { "/" };
            self.harness.event(Event::Text(text.to_owned()));
            return format!("types {text}");
        }
        if self.dice.chance(25) {
            let key = COMMANDED[self.dice.below(COMMANDED.len())];
            let with = if self.dice.chance(25) { CTRL | Modifiers::SHIFT } else { CTRL };
            self.harness.key_press_modifiers(with, key);
            return format!("presses Ctrl+{key:?}{}", if with == CTRL { "" } else { " with Shift" });
        }
        let key = KEYS[self.dice.below(KEYS.len())];
        // Some are quick with their fingers.
        let times = if self.dice.chance(15) { 3 } else { 1 };
        for _ in 0..times {
            self.harness.key_press(key);
        }
        format!("presses {key:?} {times} times")
    }

    fn palette(&mut self) -> String {
        self.harness.key_press_modifiers(CTRL, Key::P);
        self.harness.run_steps(2);
        let wish = if self.dice.chance(20) {
            let paths = start::paths(&self.folder);
            paths[self.dice.below(paths.len())].display().to_string()
        } else {
            self.dice.pick(&WISHES).to_owned()
        };
        self.harness.event(Event::Text(wish.clone()));
        self.harness.step();
        for _ in 0..self.dice.below(2) {
            self.harness.key_press(Key::ArrowDown);
        }
        let key = if self.dice.chance(85) { Key::Enter } else { Key::Escape };
        // What is marked may be a large model.
        let marked = self.nodes(|n| {
            let n = n.accesskit_node();
            n.toggled() == Some(Toggled::True) && n.label().is_some_and(|l| l.starts_with("model: ") && heavy(&l))
        });
        let key = if marked.is_empty() { key } else { Key::Escape };
        self.harness.key_press(key);
        self.harness.step();
        format!("asks the palette for `{wish}`, {key:?}")
    }

    fn scroll(&mut self) -> String {
        let at = self.somewhere();
        let by = vec2(self.dice.below(200) as f32 - 100.0, self.dice.below(1200) as f32 - 600.0);
        let modifiers = if self.dice.chance(25) { CTRL } else { Modifiers::NONE };
        self.harness.hover_at(at);
        self.harness.event(Event::MouseWheel {
            unit: MouseWheelUnit::Point,
            delta: by,
            phase: TouchPhase::Move,
            source: MouseWheelSource::Wheel,
            modifiers,
        });
        format!("scrolls by {by:?} at {at:?}")
    }

    fn resize(&mut self) -> String {
        if self.dice.chance(30) {
            let key = [Key::Plus, Key::Plus, Key::Minus, Key::Num0][self.dice.below(4)];
            self.harness.key_press_modifiers(CTRL, key);
            self.harness.step();
            return format!("scales by Ctrl+{key:?} to {}", self.harness.ctx.zoom_factor());
        }
        let size = SIZES[self.dice.below(SIZES.len())];
        self.harness.set_size(Vec2::from(size));
        format!("makes the window {size:?}")
    }

    fn change(&mut self, one: &str, other: &str) -> String {
        for label in [one, other] {
            if let Some(button) = self.harness.query_all_by_label(label).next() {
                button.click_accesskit();
                return format!("clicks `{label}`");
            }
        }
        self.scroll()
    }

    fn undo(&mut self) -> String {
        let (with, word) = match self.dice.below(3) {
            0 => (CTRL | Modifiers::SHIFT, "redo"),
            _ => (CTRL, "undo"),
        };
        for _ in 0..1 + self.dice.below(3) {
            self.harness.key_press_modifiers(with, Key::Z);
        }
        format!("presses {word}")
    }

    fn drop_file(&mut self) -> String {
        let paths = start::paths(&self.folder);
        let path = paths[self.dice.below(paths.len())].clone();
        crate::frame::drop_file(&mut self.harness, &path);
        format!("drops {}", path.display())
    }

    fn wait(&mut self) -> String {
        let (start, long) = (Instant::now(), Duration::from_millis(20 + self.dice.below(300) as u64));
        while start.elapsed() < long {
            self.harness.step();
            std::thread::sleep(Duration::from_millis(5));
        }
        format!("waits {long:?}")
    }

    /// By its button, wherever something runs; what runs then ends soon.
    pub(super) fn cancel(&mut self) -> String {
        let Some(kind) = self.harness.state().view().running else { return self.wait() };
        // The bar below comes before the screen, where a search has a Cancel of its own.
        let button = self.harness.query_all_by_label("Cancel").next();
        button.unwrap_or_else(|| panic!("nothing cancels {kind:?}")).click_accesskit();
        let start = Instant::now();
        loop {
            self.harness.step();
            if self.harness.state().view().running.is_none() {
                break;
            }
            assert!(start.elapsed() < CANCEL, "{kind:?} still runs {:?} after Cancel", start.elapsed());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.cancels.push((kind, start.elapsed()));
        format!("cancels {kind:?}, which ended after {:?}", start.elapsed())
    }
}
