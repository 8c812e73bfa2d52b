use eframe::egui::{Pos2, Rect, Vec2};

/// How far one can zoom out and in.
const ZOOM: std::ops::RangeInclusive<f32> = 0.03..=2.5;
/// Below this zoom names are too small to read, so a first look starts no farther away.
const READABLE: f32 = 0.72;

/// Which part of the picture the pane shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Camera {
    /// Point of the picture in the middle of the pane.
    pub centre: Pos2,
    /// Points on the screen for one of the picture.
    pub zoom: f32,
}

impl Default for Camera {
    fn default() -> Self {
        Self { centre: Pos2::ZERO, zoom: 1.0 }
    }
}

impl Camera {
    /// From the picture to the screen.
    pub fn to_screen(self, pane: Rect, at: Pos2) -> Pos2 {
        pane.center() + (at - self.centre) * self.zoom
    }

    /// A rectangle of the picture on the screen.
    pub fn rect_to_screen(self, pane: Rect, rect: Rect) -> Rect {
        Rect::from_min_max(self.to_screen(pane, rect.min), self.to_screen(pane, rect.max))
    }

    /// From the screen to the picture.
    pub fn from_screen(self, pane: Rect, at: Pos2) -> Pos2 {
        self.centre + (at - pane.center()) / self.zoom
    }

    /// The part of the picture that is seen.
    pub fn seen(self, pane: Rect) -> Rect {
        Rect::from_center_size(self.centre, pane.size() / self.zoom)
    }

    /// Moves with the pointer.
    pub fn pan(&mut self, by: Vec2) {
        self.centre -= by / self.zoom;
    }

    /// Zooms by `factor`; what is at `around` on the screen stays there.
    pub fn zoom_at(&mut self, pane: Rect, around: Pos2, factor: f32) {
        let held = self.from_screen(pane, around);
        self.zoom = (self.zoom * factor).clamp(*ZOOM.start(), *ZOOM.end());
        self.centre = held - (around - pane.center()) / self.zoom;
    }

    /// Shows all of `bounds`, never larger than life.
    pub fn fit(&mut self, pane: Rect, bounds: Rect) {
        self.zoom = fitting(pane, bounds).clamp(*ZOOM.start(), 1.0);
        self.centre = bounds.center();
    }

    /// A first look: all of it where it can be read, else its beginning.
    pub fn first_look(&mut self, pane: Rect, bounds: Rect) {
        self.fit(pane, bounds);
        if self.zoom < READABLE {
            self.zoom = READABLE;
            self.centre.y = bounds.top() + (pane.height() / 2.0 - 24.0) / self.zoom;
        }
    }

    /// Moves so that `target` is seen, readably.
    pub fn show(&mut self, pane: Rect, target: Rect) {
        if self.zoom < READABLE {
            self.zoom = 1.0;
            self.centre = target.center();
        } else if !self.seen(pane).shrink(8.0).contains_rect(target) {
            self.centre = target.center();
        }
    }
}

fn fitting(pane: Rect, bounds: Rect) -> f32 {
    let room = pane.shrink(16.0).size();
    let (w, h) = (bounds.width().max(1.0), bounds.height().max(1.0));
    (room.x / w).min(room.y / h)
}

#[cfg(test)]
mod tests {
    use eframe::egui::pos2;

    use super::*;

    const PANE: Rect = Rect { min: Pos2::new(100.0, 50.0), max: Pos2::new(500.0, 350.0) };

    #[test]
    fn there_and_back() {
        let camera = Camera { centre: pos2(30.0, -7.0), zoom: 0.4 };
        let at = pos2(123.0, 45.0);
        let back = camera.from_screen(PANE, camera.to_screen(PANE, at));
        assert!((back - at).length() < 1e-3);
    }

    #[test]
    fn zooming_holds_what_is_under_the_pointer() {
        let mut camera = Camera::default();
        let pointer = pos2(140.0, 300.0);
        let held = camera.from_screen(PANE, pointer);
        for factor in [1.3, 0.2, 5.0, 100.0] {
            camera.zoom_at(PANE, pointer, factor);
            assert!((camera.to_screen(PANE, held) - pointer).length() < 1e-2);
        }
        assert!(camera.zoom <= *ZOOM.end());
    }

    #[test]
    fn fit_shows_everything_and_first_look_stays_readable() {
        let bounds = Rect::from_min_max(pos2(-50.0, 0.0), pos2(150.0, 5000.0));
        let mut camera = Camera::default();
        camera.fit(PANE, bounds);
        assert!(camera.seen(PANE).contains_rect(bounds));
        camera.first_look(PANE, bounds);
        assert!(camera.zoom >= READABLE && camera.seen(PANE).contains(bounds.center_top()));
    }
}
