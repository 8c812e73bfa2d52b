use super::statistics::{mcnemar, paired_interval};

/// How often images of each class were named as each class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Classes.
    pub classes: usize,
    /// `[label][named]`, row-major.
    pub counts: Vec<u32>,
}

impl Confusion {
    /// Nothing was named yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// How many images of class `label` were named `named`.
    pub fn count(&self, label: usize, named: usize) -> u32 {
        self.counts[label * self.classes + named]
    }

    /// Images in all.
    pub fn total(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// Images that were named rightly.
    pub fn right(&self) -> u32 {
        (0..self.classes).map(|c| self.count(c, c)).sum()
    }

    /// Images of class `label`.
    pub fn of_class(&self, label: usize) -> u32 {
        self.counts[label * self.classes..][..self.classes].iter().sum()
    }
}

/// What a model says of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guess {
    /// The class it names.
    pub class: usize,
    /// With this probability.
    pub probability: f32,
}

impl Guess {
    /// Of one image's logits: the class of the largest, the first of equals, and its softmax. `None` where one is not a
    /// number, or there is none.
    pub fn of(logits: &[f32]) -> Option<Self> {
        if logits.is_empty() || logits.iter().any(|l| l.is_nan()) {
            return None;
        }
        let class = (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        let sum: f64 = logits.iter().map(|l| f64::from(l - logits[class]).exp()).sum();
        Some(Self { class, probability: (1.0 / sum) as f32 })
    }
}

/// An image that float names rightly and int8 does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flip {
    /// Which image of the split.
    pub image: usize,
    /// What it is.
    pub label: usize,
    /// What float says.
    pub float: Guess,
    /// What int8 says.
    pub int8: Guess,
}

/// Float and int8 on the same labelled images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// What float says.
    pub float: Confusion,
    /// What int8 says.
    pub int8: Confusion,
    /// Right in float, wrong in int8; the surest of float first.
    pub flipped: Vec<Flip>,
    /// Wrong in float, right in int8.
    pub gained: usize,
    /// Images whose label is among the five largest logits, of float and of int8.
    pub top5: [u32; 2],
}

/// One class in float and in int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassDrop {
    /// Its number.
    pub class: usize,
    /// Of it.
    pub images: u32,
    /// Named rightly, by float and by int8.
    pub right: [u32; 2],
}

impl ClassDrop {
    /// What int8 loses against float, as a fraction of the class's images; negative where it gains.
    pub fn share(&self) -> f64 {
        (f64::from(self.right[0]) - f64::from(self.right[1])) / f64::from(self.images.max(1))
    }
}

impl Verdicts {
    /// Nothing was looked at yet.
    pub fn new(classes: usize) -> Self {
        let none = Confusion::new(classes);
        Self { float: none.clone(), int8: none, flipped: Vec::new(), gained: 0, top5: [0; 2] }
    }

    /// Takes in one image's logits of float and of int8, for the five largest.
    pub fn add_ranks(&mut self, label: usize, (float, int8): (&[f32], &[f32])) {
        let among = |row: &[f32]| {
            row.get(label).is_some_and(|own| {
                // Of equals the first counts as the larger, as in the largest one.
                let above = |(i, v): &(usize, &f32)| *v > own || (*v == own && *i < label);
                row.iter().enumerate().filter(above).count() < 5
            })
        };
        for (count, row) in self.top5.iter_mut().zip([float, int8]) {
            *count += u32::from(among(row));
        }
    }

    /// What each class loses, the one that loses most first; of equals the first.
    pub fn drops(&self) -> Vec<ClassDrop> {
        let drop = |class| ClassDrop {
            class,
            images: self.float.of_class(class),
            right: [self.float.count(class, class), self.int8.count(class, class)],
        };
        let mut drops: Vec<ClassDrop> = (0..self.float.classes).map(drop).collect();
        drops.sort_by(|a, b| b.share().total_cmp(&a.share()));
        drops
    }

    /// How sure it is that int8 does worse or better than float: the exact McNemar test's p.
    pub fn mcnemar(&self) -> f64 {
        mcnemar(self.flipped.len(), self.gained)
    }

    /// `int8 - float` as a fraction of the images, with its 95 % interval.
    pub fn difference(&self) -> (f64, (f64, f64)) {
        let (n, lost, gained) = (self.float.total() as usize, self.flipped.len(), self.gained);
        let difference = (gained as f64 - lost as f64) / n.max(1) as f64;
        (difference, paired_interval(lost, gained, n))
    }

    /// What the images can say about the difference, as a sentence.
    pub fn in_words(&self) -> String {
        let n = self.float.total();
        let (difference, (low, high)) = self.difference();
        let points = |v: f64| format!("{:.2}", v.abs() * 100.0);
        if self.mcnemar() > 0.05 {
            let images = if n == 1 { "image" } else { "images" };
            return format!(
                "No difference that {n} {images} can show: it lies between {} points lost and {} gained.",
                points(low.min(0.0)),
                points(high.max(0.0))
            );
        }
        let what = if difference < 0.0 { "loses" } else { "gains" };
        let [a, b] = if difference < 0.0 { [high.min(0.0), low] } else { [low.max(0.0), high] };
        format!("int8 {what} {} points, between {} and {}.", points(difference), points(a), points(b))
    }

    /// Takes in image number `image` of class `label`. A label without a logit counts for nothing.
    pub fn add(&mut self, image: usize, label: usize, float: Guess, int8: Guess) {
        let classes = self.float.classes;
        if label.max(float.class).max(int8.class) >= classes {
            return;
        }
        self.float.counts[label * classes + float.class] += 1;
        self.int8.counts[label * classes + int8.class] += 1;
        match (float.class == label, int8.class == label) {
            (true, false) => {
                let at = self.flipped.partition_point(|f| f.float.probability >= float.probability);
                self.flipped.insert(at, Flip { image, label, float, int8 });
            }
            (false, true) => self.gained += 1,
            (true, true) | (false, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_the_softmax_of_the_largest() {
        let guess = Guess::of(&[1.0, 3.0, 3.0, -2.0]).expect("numbers");
        let expected = 3f64.exp() / (1f64.exp() + 2.0 * 3f64.exp() + (-2f64).exp());
        assert_eq!(guess.class, 1, "the first of equals");
        assert!((f64::from(guess.probability) - expected).abs() < 1e-6);
        assert_eq!(Guess::of(&[1.0, f32::NAN]), None);
        assert_eq!(Guess::of(&[]), None);
    }

    #[test]
    fn the_class_that_loses_most_comes_first() {
        let guess = |class| Guess { class, probability: 0.5 };
        let mut verdicts = Verdicts::new(3);
        for (label, float, int8) in [(0, 0, 0), (0, 0, 0), (1, 1, 2), (1, 1, 1), (2, 0, 2)] {
            verdicts.add(0, label, guess(float), guess(int8));
        }
        let drops = verdicts.drops();
        assert_eq!(drops.iter().map(|d| d.class).collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(drops.iter().map(ClassDrop::share).collect::<Vec<_>>(), [0.5, 0.0, -1.0]);
    }

    #[test]
    fn flips_are_right_in_float_and_wrong_in_int8() {
        let guess = |class, probability| Guess { class, probability };
        let mut verdicts = Verdicts::new(3);
        verdicts.add(0, 1, guess(1, 0.6), guess(2, 0.5));
        verdicts.add(1, 1, guess(1, 0.9), guess(1, 0.8));
        verdicts.add(2, 0, guess(0, 0.8), guess(1, 0.4));
        verdicts.add(3, 2, guess(0, 0.5), guess(2, 0.4));
        verdicts.add(4, 7, guess(0, 0.5), guess(2, 0.4));
        assert_eq!(verdicts.flipped.iter().map(|f| f.image).collect::<Vec<_>>(), [2, 0], "the surest first");
        assert_eq!((verdicts.gained, verdicts.float.total(), verdicts.int8.total()), (1, 4, 4));
        assert_eq!((verdicts.float.right(), verdicts.int8.right()), (3, 2));
        verdicts.add_ranks(5, (&[1.0, 2.0, 3.0, 4.0, 5.0, 1.0, 0.0], &[1.0, 2.0, 0.0, 4.0, 5.0, 1.0, 0.0]));
        assert_eq!(verdicts.top5, [0, 1], "behind 5, 4, 3, 2 and the first 1; behind 5, 4, 2 and the first 1");
        assert!(verdicts.in_words().starts_with("No difference that 4 images can show"), "{}", verdicts.in_words());
        verdicts.float.counts[0] += 996;
        verdicts.flipped = vec![verdicts.flipped[0]; 30];
        let said = verdicts.in_words();
        assert!(said.starts_with("int8 loses 2.90 points, between 1.") && said.contains(" and 3."), "{said}");
        assert_eq!((verdicts.int8.count(1, 2), verdicts.int8.of_class(1)), (1, 2));
    }
}
