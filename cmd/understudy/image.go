package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"understudy/internal/image"
	"understudy/internal/image/debian"
	"understudy/internal/image/progress"
)

func imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "Build and list guest images"}
	c.AddCommand(imageBuildCommand(), imageListCommand())
	return c
}

func imageBuildCommand() *cobra.Command {
	var (
		recipe, dir string
		refresh     bool
		archive     debian.Options
	)
	c := &cobra.Command{
		Use:   "build",
		Short: "Build a guest image from Debian packages",
		Long: `Fetches Debian trixie's riscv64 kernel and the recipe's packages, verified by the archive's signature and hashes,
and builds an image. Nothing needs to be installed. What was fetched is cached; a second build uses no network.

The mirror is taken from --mirror, UNDERSTUDY_MIRROR, or this machine's apt configuration.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := image.FindRecipe(recipe)
			if err != nil {
				return err
			}
			p := progress.New(os.Stderr)
			im, err := image.Build(c.Context(), r, image.BuildOptions{Dir: dir, Refresh: refresh, Archive: archive}, p)
			p.Close()
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), im.Dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&recipe, "recipe", "redis", "what to build: redis or shell")
	f.StringVarP(&dir, "output", "o", "", "the image's directory (default: named after the recipe, below the cache)")
	f.BoolVar(&refresh, "refresh", false, "build again with the archive's newest packages")
	f.StringVar(&archive.Mirror, "mirror", "", "URL of a Debian mirror")
	return c
}

func imageListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the images in the cache", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := image.DefaultDir()
			if err != nil {
				return err
			}
			images, broken := image.List(dir)
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tKERNEL\tMEMORY\tDIRECTORY")
			for _, im := range images {
				fmt.Fprintf(w, "%s\t%s\t%d MiB\t%s\n", im.Name, im.KernelRelease, im.MemBytes>>20, im.Dir)
			}
			for _, err := range broken {
				fmt.Fprintf(c.ErrOrStderr(), "Error: %v\n", err)
			}
			return w.Flush()
		},
	}
}
