use std::collections::BTreeSet;
use std::sync::Arc;

use eframe::egui::{self, Align2, CursorIcon, Key, Pos2, Rect, RichText, Role, Sense, Ui, WidgetInfo, vec2};

use super::draw::{Brush, Look, Standing};
use super::{Camera, Card, Layout, Lens, Selection, Task, fold, modules, opened_at_first};
use crate::app::theme::{self, Type};
use crate::graph::Graph;

/// One pane that shows a graph: which modules are open, where one looks, what is sought.
#[derive(Debug, Default)]
pub struct GraphPane {
    graph: Option<Arc<Graph>>,
    opened: BTreeSet<String>,
    task: Option<Task>,
    /// What is drawn, and the graph that its cards are of: an earlier step's, while that of this one is laid out.
    layout: Option<(Arc<Graph>, Arc<Layout>)>,
    camera: Camera,
    aim: Aim,
    /// Whether the user has moved the picture: then it stays where it is when the next step changes the graph.
    moved: bool,
    room: egui::Vec2,
    search: String,
    lens: Option<Arc<Lens>>,
    /// Whether the field for a layer's name gets the keyboard at the next frame.
    asked_for_name: bool,
}

/// Where to look when the next layout comes.
#[derive(Clone, Debug, Default, PartialEq)]
enum Aim {
    #[default]
    FirstLook,
    Fit,
    /// The card that holds this node stays at this place of the screen.
    Hold(String, Pos2),
    /// The card that holds this node comes into view.
    Show(String),
    Stay,
}

impl GraphPane {
    /// Opens the modules around a node and brings it into view.
    pub fn reveal(&mut self, name: &str) {
        let Some(graph) = &self.graph else { return };
        if graph.find(name).is_none() {
            return;
        }
        let around: Vec<String> = super::fold::prefixes(name).map(str::to_owned).collect();
        let mut any = false;
        for path in around {
            any |= self.opened.insert(path);
        }
        self.aim = Aim::Show(name.to_owned());
        self.moved = true;
        if any {
            self.task = None;
        }
    }

    /// Gives the field for a layer's name the keyboard, at the next frame.
    pub fn ask_for_name(&mut self) {
        self.asked_for_name = true;
    }

    /// Shows everything at the next frame.
    pub fn fit(&mut self) {
        self.aim = Aim::Fit;
    }

    /// What the cards say beside what they are in; `None` for nothing more.
    pub fn look_through(&mut self, lens: Option<Arc<Lens>>) {
        self.lens = lens;
    }

    /// Whether a layout is being computed.
    pub fn is_busy(&self) -> bool {
        matches!(self.task, Some(Task::Waiting(_)))
    }

    fn update(&mut self, graph: &Arc<Graph>, ctx: &egui::Context) {
        if !self.graph.as_ref().is_some_and(|g| Arc::ptr_eq(g, graph)) {
            // The steps of one model keep what was opened and where one looked.
            let same_model = self.graph.as_ref().is_some_and(|g| g.name == graph.name);
            if !same_model {
                self.opened = opened_at_first(graph);
                self.aim = Aim::FirstLook;
                self.layout = None;
                self.moved = false;
            } else if !self.moved {
                self.aim = Aim::FirstLook;
            }
            self.graph = Some(graph.clone());
            self.task = None;
        }
        let (opened, wake) = (&self.opened, ctx.clone());
        let task = self.task.get_or_insert_with(|| Task::start(fold(graph, opened), move || wake.request_repaint()));
        if let Some(ready) = task.poll() {
            self.layout = Some((graph.clone(), ready.clone()));
        }
    }

    fn aim(&mut self, pane: Rect) {
        if self.is_busy() {
            return;
        }
        let Some((graph, layout)) = &self.layout else { return };
        let holding = |name: &str| {
            let id = graph.find(name)?;
            let card = layout.folded.cards.iter().position(|c| c.nodes.contains(&id))?;
            Some(layout.cards[card])
        };
        match std::mem::replace(&mut self.aim, Aim::Stay) {
            Aim::Stay => {}
            Aim::FirstLook => self.camera.first_look(pane, layout.bounds),
            Aim::Fit => self.camera.fit(pane, layout.bounds),
            Aim::Show(name) => {
                if let Some(rect) = holding(&name) {
                    self.camera.show(pane, rect);
                }
            }
            Aim::Hold(name, at) => {
                if let Some(rect) = holding(&name) {
                    self.camera.centre += (self.camera.to_screen(pane, rect.center()) - at) / self.camera.zoom;
                }
            }
        }
    }

    fn refold(&mut self, opened: BTreeSet<String>, aim: Aim) {
        if opened != self.opened {
            self.opened = opened;
            self.task = None;
        }
        self.moved |= !matches!(aim, Aim::FirstLook);
        self.aim = aim;
    }
}

/// Draws the pane over all the room there is. Screen readers call it "Graph" and `title`. Returns the
/// name of the node that was clicked or found.
pub fn pane_ui(
    ui: &mut Ui,
    title: &str,
    pane: &mut GraphPane,
    graph: &Arc<Graph>,
    selection: &Selection,
) -> Option<String> {
    let label = &format!("Graph {}", title.to_lowercase());
    let mut chosen = toolbar_ui(ui, title, label, pane, graph);
    pane.update(graph, ui.ctx());
    let (whole, response) = ui.allocate_exact_size(ui.available_size().max(vec2(64.0, 64.0)), Sense::click_and_drag());
    // The legend has a strip of its own, so that it covers no card; a low pane has no room for it.
    let legend = if whole.height() >= 4.0 * LEGEND { LEGEND } else { 0.0 };
    let (rect, strip) = whole.split_top_bottom_at_y(whole.bottom() - legend);
    response.widget_info(|| WidgetInfo::labeled(Role::Figure, true, label));
    if pane.room != rect.size() {
        pane.room = rect.size();
        // Another room, another best look, unless the user chose his own.
        if !pane.moved {
            pane.aim = Aim::FirstLook;
        }
    }
    pane.aim(rect);
    steer(ui, pane, rect, &response);
    let Some((laid, layout)) = pane.layout.clone() else {
        let at = rect.center();
        let weak = theme::palette(ui).weak;
        let lost = matches!(pane.task, Some(Task::Lost));
        let text = if lost { "This graph could not be laid out." } else { "Laying out\u{2026}" };
        ui.painter().text(at, Align2::CENTER_CENTER, text, Type::Body.font(), weak);
        return chosen;
    };
    let standing = standings(&layout, &laid, selection);
    let brush = Brush { painter: ui.painter_at(rect), palette: theme::palette(ui), camera: pane.camera, pane: rect };
    groups_ui(ui, pane, &brush, &laid, &layout);
    brush.edges(&layout, &standing);
    let seen = pane.camera.seen(rect);
    for (i, (card, place)) in layout.folded.cards.iter().zip(&layout.cards).enumerate() {
        if !seen.intersects(*place) {
            continue;
        }
        let on_screen = pane.camera.rect_to_screen(rect, *place).intersect(rect);
        let response = ui.interact(on_screen, ui.scope_id().with((label, &card.name)), Sense::click());
        let lens = pane.lens.as_deref();
        let tone = lens.and_then(|l| l.tone(&laid, card)).unwrap_or(card.tone);
        let read = lens.and_then(|l| l.read(&laid, card));
        response.widget_info(|| card_info(card, standing[i], read.as_ref().map(|(said, _)| said.as_str())));
        let lively = response.hovered() || response.has_focus();
        brush.card(card, *place, &Look { standing: standing[i], lively, tone, read });
        if response.hovered() {
            ui.ctx().set_cursor_icon(CursorIcon::PointingHand);
        }
        if response.clicked() {
            chosen = click(pane, &laid, card, on_screen.center()).or(chosen);
        }
    }
    let lens = pane.lens.as_deref();
    brush.minimap(&layout, &standing, |card| lens.and_then(|l| l.tone(&laid, card)).unwrap_or(card.tone));
    if legend > 0.0 {
        let brush = Brush { painter: ui.painter_at(strip), pane: strip, ..brush };
        brush.legend(graph, lens);
    }
    chosen
}

fn card_info(card: &Card, standing: Standing, read: Option<&str>) -> WidgetInfo {
    let what = if card.module { "module, opens on click" } else { card.tone.name() };
    let read = read.map_or(String::new(), |said| format!(", {said}"));
    let label = format!("{}, {}, {what}{read}", card.name, card.caption);
    WidgetInfo::selected(Role::Button, true, standing == Standing::Selected, label)
}

fn click(pane: &mut GraphPane, graph: &Graph, card: &Card, at: Pos2) -> Option<String> {
    let first = &graph.node(card.nodes[0]).name;
    if card.module {
        let mut opened = pane.opened.clone();
        opened.insert(card.name.clone());
        pane.refold(opened, Aim::Hold(first.clone(), at));
        return None;
    }
    Some(first.clone())
}

fn standings(layout: &Layout, graph: &Graph, selection: &Selection) -> Vec<Standing> {
    let selected: Vec<bool> = layout
        .folded
        .cards
        .iter()
        .map(|c| c.nodes.iter().any(|id| selection.contains(&graph.node(*id).name)))
        .collect();
    if !selected.contains(&true) {
        return vec![Standing::Near; selected.len()];
    }
    let mut standing: Vec<Standing> =
        selected.iter().map(|s| if *s { Standing::Selected } else { Standing::Far }).collect();
    for (a, b) in &layout.folded.edges {
        for (this, other) in [(*a, *b), (*b, *a)] {
            if selected[this] && !selected[other] {
                standing[other] = Standing::Near;
            }
        }
    }
    standing
}

/// Open modules: a hairline around their cards, with a name that folds them again.
fn groups_ui(ui: &Ui, pane: &mut GraphPane, brush: &Brush, graph: &Graph, layout: &Layout) {
    if pane.camera.zoom < 0.25 {
        return;
    }
    let mut folded = None;
    // Modules that begin with the same card have their names side by side.
    let mut taken: Vec<Rect> = Vec::new();
    for path in &pane.opened {
        let inside = |c: &Card| c.name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let mut cards = layout.folded.cards.iter().zip(&layout.cards).filter(|(c, _)| inside(c));
        let Some(first) = cards.next() else { continue };
        let depth = path.matches('.').count() as f32;
        let around = cards.fold(*first.1, |all, (_, r)| all.union(*r)).expand(14.0 - 4.0 * depth.min(2.0));
        let around = brush.camera.rect_to_screen(brush.pane, around);
        if !around.intersects(brush.pane) {
            continue;
        }
        let p = brush.palette;
        let line = egui::Stroke::new(1.0, p.hairline);
        brush.painter.rect(around, theme::RADIUS, p.panel.gamma_multiply(0.5), line, egui::StrokeKind::Inside);
        let galley = brush.painter.layout_no_wrap(format!("{path}  \u{2212}"), Type::Small.font(), p.weak);
        let tag = Rect::from_min_size(around.left_top() - vec2(0.0, galley.size().y + 2.0), galley.size()).expand(2.0);
        let mut tag = tag.translate(vec2(2.0, 0.0));
        while let Some(other) = taken.iter().find(|t| t.intersects(tag)) {
            tag = tag.translate(vec2(other.right() + theme::GRID - tag.left(), 0.0));
        }
        taken.push(tag);
        // Out of sight it is no button, and its part of the pane would be less than nothing.
        if !tag.intersects(brush.pane) {
            continue;
        }
        let response = ui.interact(
            tag.intersect(brush.pane),
            ui.scope_id().with(("fold", path, layout.cards.len())),
            Sense::click(),
        );
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Fold {path}")));
        let color = if response.hovered() || response.has_focus() { p.accent_ink } else { p.weak };
        brush.painter.galley_with_override_text_color(tag.min + vec2(2.0, 2.0), galley, color);
        if response.clicked() {
            let node = layout.folded.cards.iter().find(|c| inside(c)).map(|c| c.nodes[0]);
            folded = node.map(|id| (path.clone(), id, tag.center()));
        }
    }
    if let Some((path, id, at)) = folded {
        let below = format!("{path}.");
        let opened = pane.opened.iter().filter(|o| **o != path && !o.starts_with(&below)).cloned().collect();
        pane.refold(opened, Aim::Hold(graph.node(id).name.clone(), at));
    }
}

fn steer(ui: &Ui, pane: &mut GraphPane, rect: Rect, response: &egui::Response) {
    if response.dragged() {
        pane.camera.pan(response.drag_delta());
        pane.moved = true;
    }
    if response.contains_pointer() {
        let (scroll, zoom, pointer) = ui.input(|i| (i.smooth_scroll_delta(), i.zoom_delta(), i.pointer.hover_pos()));
        pane.moved |= zoom != 1.0 || scroll != egui::Vec2::ZERO;
        if zoom != 1.0 {
            pane.camera.zoom_at(rect, pointer.unwrap_or(rect.center()), zoom);
        } else if scroll != egui::Vec2::ZERO {
            pane.camera.pan(scroll);
        }
    }
    if response.double_clicked() {
        pane.fit();
    }
}

/// Height of the legend.
const LEGEND: f32 = 24.0;

/// Below this the bar's controls stand closer.
const NARROW: f32 = 320.0;

fn toolbar_ui(ui: &mut Ui, title: &str, label: &str, pane: &mut GraphPane, graph: &Arc<Graph>) -> Option<String> {
    let mut chosen = None;
    ui.horizontal(|ui| {
        // The field takes what the buttons leave.
        let mut buttons = 172.0;
        if ui.available_width() < NARROW {
            ui.spacing_mut().button_padding.x = theme::GRID;
            ui.spacing_mut().item_spacing.x = theme::GRID;
            buttons = 124.0;
        }
        ui.label(RichText::new(title).font(Type::Body.strong()).color(theme::palette(ui).strong));
        let field = egui::TextEdit::singleline(&mut pane.search)
            .hint_text("Find a layer")
            .desired_width((ui.available_width() - buttons).clamp(24.0, 160.0))
            .align(egui::Align2::LEFT_CENTER);
        let field = ui.add(field).on_hover_text(format!("Find a layer: {label}"));
        field.widget_info(|| {
            WidgetInfo::labeled(Role::TextInput, true, format!("Find a layer, {}", title.to_lowercase()))
        });
        if std::mem::take(&mut pane.asked_for_name) {
            field.request_focus();
        }
        if field.lost_focus() && ui.input(|i| i.key_pressed(Key::Enter)) {
            chosen = found(graph, &pane.search);
        }
        if ui.button("Fit").on_hover_text("Show the whole graph (F)").clicked() {
            pane.fit();
        }
        if ui.button("Fold").on_hover_text("Fold every module").clicked() {
            pane.refold(opened_at_first(graph), Aim::FirstLook);
        }
        if ui.button("Open").on_hover_text("Open every module").clicked() {
            pane.refold(modules(graph).into_keys().collect(), Aim::FirstLook);
        }
    });
    if let Some(name) = &chosen {
        pane.graph.get_or_insert_with(|| graph.clone());
        pane.reveal(name);
    }
    chosen
}

/// The node whose name is what was typed, or begins with it, or holds it.
fn found(graph: &Graph, typed: &str) -> Option<String> {
    let typed = typed.trim().to_lowercase();
    if typed.is_empty() {
        return None;
    }
    let names = || graph.nodes.iter().map(|n| &n.name);
    names()
        .find(|n| n.to_lowercase() == typed)
        .or_else(|| names().find(|n| n.to_lowercase().starts_with(&typed)))
        .or_else(|| names().find(|n| n.to_lowercase().contains(&typed)))
        .cloned()
}
